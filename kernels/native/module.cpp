// The Python face of the native kernels: kernels._native. Arguments are checked
// in kernels/*.py; here only what memory safety needs.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "blur.hpp"
#include "gelu.hpp"
#include "half.hpp"
#include "largest.hpp"
#include "order.hpp"
#include "plate_size.hpp"
#include "over.hpp"
#include "specks.hpp"
#include "subject.hpp"

namespace py = pybind11;
using namespace vera;

namespace {

bool is_type(const py::array& array, char kind, py::ssize_t bytes) {
    return array.dtype().kind() == kind && array.itemsize() == bytes;
}

void require(bool fine, const char* message) {
    if (!fine) throw std::invalid_argument(message);
}

template <class Plate, class Layer>
void run(const py::array& plate, const py::array& layer, py::array& result, Space plate_space,
         Space blend_space, int code_bits) {
    const Size size{plate.shape(0), plate.shape(1), plate.shape(2)};
    const auto* p = static_cast<const Plate*>(plate.data());
    const auto* l = static_cast<const Layer*>(layer.data());
    auto* r = static_cast<Plate*>(result.mutable_data());
    py::gil_scoped_release released;
    over(p, l, r, size, plate_space, blend_space, code_bits);
}

template <class Plate>
void run_layer(const py::array& plate, const py::array& layer, py::array& result,
               Space plate_space, Space blend_space, int code_bits) {
    if (is_type(layer, 'f', 4))
        run<Plate, float>(plate, layer, result, plate_space, blend_space, code_bits);
    else if (is_type(layer, 'f', 2))
        run<Plate, half_t>(plate, layer, result, plate_space, blend_space, code_bits);
    else
        throw std::invalid_argument("the layer is neither float16 nor float32");
}

py::array py_over(const py::array& plate, const py::array& layer, bool plate_encoded,
                  bool blend_encoded, int code_bits) {
    for (const auto& array : {plate, layer})
        require(array.ndim() == 3 && (array.flags() & py::array::c_style),
                "plate and layer must be contiguous arrays of three dimensions");
    require(plate.shape(2) == 3 || plate.shape(2) == 4, "the plate has neither 3 nor 4 channels");
    require(layer.shape(2) == 4 && layer.shape(0) == plate.shape(0) &&
                layer.shape(1) == plate.shape(1),
            "the layer is not RGBA of the plate's size");
    require(code_bits == 0 || (code_bits >= 8 && code_bits < 16 && is_type(plate, 'u', 2)),
            "code_bits is for uint16 plates, 8 to 15");

    py::array result(plate.dtype(), {plate.shape(0), plate.shape(1), plate.shape(2)});
    const Space p = plate_encoded ? Space::encoded : Space::linear;
    const Space b = blend_encoded ? Space::encoded : Space::linear;
    if (is_type(plate, 'u', 1)) run_layer<uint8_t>(plate, layer, result, p, b, code_bits);
    else if (is_type(plate, 'u', 2)) run_layer<uint16_t>(plate, layer, result, p, b, code_bits);
    else if (is_type(plate, 'u', 4)) run_layer<uint32_t>(plate, layer, result, p, b, code_bits);
    else if (is_type(plate, 'f', 2)) run_layer<half_t>(plate, layer, result, p, b, code_bits);
    else if (is_type(plate, 'f', 4)) run_layer<float>(plate, layer, result, p, b, code_bits);
    else throw std::invalid_argument("the plate's type is none of uint8/16/32, float16/32");
    return result;
}

using Floats = py::array_t<float, py::array::c_style>;

// Height and width of an array of `channels` (0: of two dimensions).
Extent extent(const Floats& array, py::ssize_t channels) {
    require(array.ndim() == (channels ? 3 : 2) && (!channels || array.shape(2) == channels) && array.size() > 0,
            "an array has the wrong shape");
    return {array.shape(0), array.shape(1)};
}

void require_same(Extent a, Extent b) {
    require(a.height == b.height && a.width == b.width, "arrays differ in size");
}

py::tuple py_plate_alpha(const Floats& alpha, const Floats& fit, const Floats& edge, const Floats& plate,
                         float steepness) {
    const Extent model = extent(alpha, 0), edges = extent(edge, 4), size = extent(plate, 3);
    require_same(model, extent(fit, 5));
    Floats result({size.height, size.width}), kept({size.height, size.width});
    const float *a = alpha.data(), *f = fit.data(), *e = edge.data(), *p = plate.data();
    float *r = result.mutable_data(), *k = kept.mutable_data();
    {
        py::gil_scoped_release released;
        plate_alpha(a, model, f, e, edges, p, size, steepness, r, k);
    }
    return py::make_tuple(result, kept);
}

Floats py_plate_color(const Floats& color, const Floats& alpha) {
    const Extent model = extent(color, 3), size = extent(alpha, 0);
    Floats result({size.height, size.width, std::ptrdiff_t(3)});
    const float *c = color.data(), *a = alpha.data();
    float* r = result.mutable_data();
    py::gil_scoped_release released;
    plate_color(c, model, a, size, r);
    return result;
}

void py_free_subject(Floats& edit, Floats& alpha, const Floats& kept, const Floats& plate) {
    const Extent size = extent(alpha, 0);
    for (const auto& other : {extent(edit, 3), extent(kept, 0), extent(plate, 3)}) require_same(size, other);
    float *e = edit.mutable_data(), *a = alpha.mutable_data();
    const float *k = kept.data(), *p = plate.data();
    py::gil_scoped_release released;
    free_subject(e, a, k, p, size);
}

void py_remove_specks(Floats& alpha, float low, float high, long area) {
    const Extent size = extent(alpha, 0);
    float* a = alpha.mutable_data();
    py::gil_scoped_release released;
    remove_specks(a, size, low, high, area);
}

Floats py_blur_lines(const Floats& values, const Floats& weights, int threads) {
    require(values.ndim() == 3 && weights.ndim() == 1 && weights.size() > 0, "an array has the wrong shape");
    const Lines lines{values.shape(0), values.shape(1), values.shape(2)};
    Floats result({lines.outer, lines.size, lines.inner});
    const float *v = values.data(), *w = weights.data();
    float* r = result.mutable_data();
    const int reach = int(weights.size()) - 1;
    py::gil_scoped_release released;
    blur_lines(v, r, lines, w, reach, threads);
    return result;
}

Floats py_blur_planes(const Floats& values, const Floats& along, const Floats& down, int threads) {
    require(values.ndim() == 3 && along.ndim() == 1 && down.ndim() == 1 && along.size() > 0 && down.size() > 0,
            "an array has the wrong shape");
    const Lines planes{values.shape(0), values.shape(1), values.shape(2)};
    Floats result({planes.outer, planes.size, planes.inner});
    const float* v = values.data();
    const HalfKernel a{along.data(), int(along.size()) - 1}, d{down.data(), int(down.size()) - 1};
    float* r = result.mutable_data();
    py::gil_scoped_release released;
    blur_planes(v, r, planes, a, d, threads);
    return result;
}

Floats py_largest_lines(const Floats& values, int reach, int threads) {
    require(values.ndim() == 3 && reach >= 0, "an array has the wrong shape");
    const Lines lines{values.shape(0), values.shape(1), values.shape(2)};
    Floats result({lines.outer, lines.size, lines.inner});
    const float* v = values.data();
    float* r = result.mutable_data();
    py::gil_scoped_release released;
    largest_lines(v, r, lines, reach, threads);
    return result;
}

py::tuple py_median_size(const Floats& values, const Floats& weights, float least) {
    require(values.size() == weights.size(), "arrays differ in size");
    Median median;
    const float *v = values.data(), *w = weights.data();
    const std::ptrdiff_t count = values.size();
    {
        py::gil_scoped_release released;
        median = median_size(v, w, count, least);
    }
    return py::make_tuple(median.count, median.value);
}

void py_gelu_tanh(Floats& values, int threads) {
    float* v = values.mutable_data();
    const std::ptrdiff_t count = values.size();
    py::gil_scoped_release released;
    gelu_tanh(v, count, threads);
}

}  // namespace

PYBIND11_MODULE(_native, module) {
    module.doc() = "Native kernels of Vera; each has its Python face and its reference in kernels/.";
    // Of the functions below and their arguments: raise it here and in kernels/native_module.py when these change.
    module.attr("VERSION") = 2;
    module.def("over", &py_over, py::arg("plate"), py::arg("layer"), py::arg("plate_encoded"),
               py::arg("blend_encoded"), py::arg("code_bits"));
    module.def("outlined_alpha", &py_plate_alpha, py::arg("alpha"), py::arg("fit"), py::arg("edge"), py::arg("plate"),
               py::arg("steepness"));
    module.def("plate_color", &py_plate_color, py::arg("color"), py::arg("alpha"));
    // In place: noconvert, so that no copy is changed instead.
    module.def("free_subject", &py_free_subject, py::arg("edit").noconvert(), py::arg("alpha").noconvert(),
               py::arg("kept"), py::arg("plate"));
    module.def("remove_specks", &py_remove_specks, py::arg("alpha").noconvert(), py::arg("low"), py::arg("high"),
               py::arg("area"));
    module.def("gelu_tanh", &py_gelu_tanh, py::arg("values").noconvert(), py::arg("threads"));
    module.def("blur_lines", &py_blur_lines, py::arg("values"), py::arg("weights"), py::arg("threads"));
    module.def("blur_planes", &py_blur_planes, py::arg("values"), py::arg("along"), py::arg("down"),
               py::arg("threads"));
    module.def("largest_lines", &py_largest_lines, py::arg("values"), py::arg("reach"), py::arg("threads"));
    module.def("median_size", &py_median_size, py::arg("values"), py::arg("weights"), py::arg("least"));
    module.def("half_to_double", py::vectorize(half_to_double), py::arg("bits"));
    module.def("double_to_half", py::vectorize(double_to_half), py::arg("value"));
}
