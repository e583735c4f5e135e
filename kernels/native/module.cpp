// The Python face of the native kernels: kernels._native. Arguments are checked
// in kernels/*.py; here only what memory safety needs.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "blur.hpp"
#include "gelu.hpp"
#include "half.hpp"
#include "largest.hpp"
#include "order.hpp"
#include "plate_size.hpp"
#include "over.hpp"
#include "shrink.hpp"
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

// A part given as top, bottom, left and right, inside of a picture.
Part part_of(const std::vector<py::ssize_t>& part, Extent size) {
    require(part.size() == 4 && 0 <= part[0] && part[0] < part[1] && part[1] <= size.height && 0 <= part[2] &&
                part[2] < part[3] && part[3] <= size.width,
            "the part lies outside of the picture");
    return {part[0], part[1], part[2], part[3]};
}

py::tuple py_plate_alpha(const Floats& alpha, const Floats& fit, const Floats& edge, const Floats& plate,
                         float steepness, py::ssize_t height, py::ssize_t width,
                         const std::vector<py::ssize_t>& part) {
    const Extent model = extent(alpha, 0), edges = extent(edge, 4), made = extent(plate, 3), size{height, width};
    const Part wanted = part_of(part, size);
    require_same(model, extent(fit, 5));
    require_same(made, wanted.extent());
    Floats result({made.height, made.width}), kept({made.height, made.width});
    const float *a = alpha.data(), *f = fit.data(), *e = edge.data(), *p = plate.data();
    float *r = result.mutable_data(), *k = kept.mutable_data();
    {
        py::gil_scoped_release released;
        plate_alpha(a, model, f, e, edges, p, size, wanted, steepness, r, k);
    }
    return py::make_tuple(result, kept);
}

Floats py_plate_color(const Floats& color, const Floats& alpha, py::ssize_t height, py::ssize_t width,
                      const std::vector<py::ssize_t>& part) {
    const Extent model = extent(color, 3), made = extent(alpha, 0), size{height, width};
    const Part wanted = part_of(part, size);
    require_same(made, wanted.extent());
    Floats result({made.height, made.width, std::ptrdiff_t(3)});
    const float *c = color.data(), *a = alpha.data();
    float* r = result.mutable_data();
    py::gil_scoped_release released;
    plate_color(c, model, a, size, wanted, r);
    return result;
}

template <class Code>
void run_area_means(const py::array& codes, const float* table, Extent small, float* result) {
    const auto* from = static_cast<const Code*>(codes.data());
    const Extent size{codes.shape(0), codes.shape(1)};
    const std::ptrdiff_t row = codes.strides(0) / py::ssize_t(sizeof(Code)), channels = codes.shape(2);
    py::gil_scoped_release released;
    area_means(from, size, row, channels, table, small, result);
}

Floats py_area_means(const py::array& codes, const Floats& table, py::ssize_t height, py::ssize_t width) {
    const bool is_byte = is_type(codes, 'u', 1);
    require(is_byte || is_type(codes, 'u', 2), "codes are neither uint8 nor uint16");
    require(table.size() == (is_byte ? 256 : 65536), "the table has not one value a code");
    require(codes.ndim() == 3 && codes.size() > 0 && (codes.shape(2) == 3 || codes.shape(2) == 4) &&
                codes.strides(2) == codes.itemsize() && codes.strides(1) == codes.shape(2) * codes.itemsize() &&
                codes.strides(0) % codes.itemsize() == 0 && height > 0 && width > 0,
            "codes are not (H, W, 3 or 4) with whole rows");
    Floats result({std::ptrdiff_t(3), height, width});
    if (is_byte) run_area_means<uint8_t>(codes, table.data(), {height, width}, result.mutable_data());
    else run_area_means<uint16_t>(codes, table.data(), {height, width}, result.mutable_data());
    return result;
}

Floats py_area_planes(const py::array_t<float>& planes, py::ssize_t height, py::ssize_t width, int threads) {
    require(planes.ndim() == 3 && planes.size() > 0 && height > 0 && width > 0, "planes are not (N, H, W)");
    const auto step = [&](int axis) { return std::ptrdiff_t(planes.strides(axis) / py::ssize_t(sizeof(float))); };
    const Planes from{planes.data(), planes.shape(0), planes.shape(1), planes.shape(2), step(0), step(1), step(2)};
    Floats result({std::ptrdiff_t(planes.shape(0)), std::ptrdiff_t(height), std::ptrdiff_t(width)});
    float* r = result.mutable_data();
    py::gil_scoped_release released;
    area_means(from, {height, width}, r, threads);
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

template <class T>
void run_shrink(const py::array& image, Extent size, const Part& part, float most, float* result) {
    const auto item = py::ssize_t(sizeof(T));
    const Picture<T> picture{static_cast<const T*>(image.data()), image.shape(0), image.shape(1), image.shape(2),
                             image.strides(0) / item, image.strides(1) / item};
    py::gil_scoped_release released;
    shrink(picture, size.height, size.width, part, most, result);
}

// part: top, bottom, left, right of the result.
Floats py_shrink(const py::array& image, py::ssize_t height, py::ssize_t width, const std::vector<py::ssize_t>& part,
                 float most) {
    require(image.ndim() == 3 && image.size() > 0 && (image.shape(2) == 3 || image.shape(2) == 4) &&
                image.strides(2) == image.itemsize() &&
                image.strides(0) % image.itemsize() == 0 && image.strides(1) % image.itemsize() == 0,
            "the image is not (H, W, 3 or 4) with channels side by side");
    const Extent size{height, width};
    const Part wanted = part_of(part, size);
    Floats result({wanted.extent().height, wanted.extent().width, image.shape(2)});
    float* r = result.mutable_data();
    if (is_type(image, 'u', 1)) run_shrink<uint8_t>(image, size, wanted, most, r);
    else if (is_type(image, 'u', 2)) run_shrink<uint16_t>(image, size, wanted, most, r);
    else if (is_type(image, 'u', 4)) run_shrink<uint32_t>(image, size, wanted, most, r);
    else if (is_type(image, 'f', 2)) run_shrink<half_t>(image, size, wanted, most, r);
    else if (is_type(image, 'f', 4)) run_shrink<float>(image, size, wanted, most, r);
    else throw std::invalid_argument("the image's type is none of uint8/16/32, float16/32");
    return result;
}

// Number of pixels with alpha, then top, bottom, left and right of their box.
py::tuple py_alpha_box(const py::array& layer) {
    require(layer.ndim() == 3 && layer.shape(2) == 4 && (layer.flags() & py::array::c_style),
            "the layer is not a contiguous (H, W, 4)");
    const py::ssize_t height = layer.shape(0), width = layer.shape(1);
    Part box{};
    std::ptrdiff_t count;
    if (is_type(layer, 'f', 2)) {
        const auto* l = static_cast<const half_t*>(layer.data());
        py::gil_scoped_release released;
        count = alpha_box(l, height, width, box);
    } else if (is_type(layer, 'f', 4)) {
        const auto* l = static_cast<const float*>(layer.data());
        py::gil_scoped_release released;
        count = alpha_box(l, height, width, box);
    } else {
        throw std::invalid_argument("the layer is neither float16 nor float32");
    }
    return py::make_tuple(count, box.top, box.bottom, box.left, box.right);
}

}  // namespace

PYBIND11_MODULE(_native, module) {
    module.doc() = "Native kernels of Vera; each has its Python face and its reference in kernels/.";
    // Of the functions below and their arguments: raise it here and in kernels/native_module.py when these change.
    module.attr("VERSION") = 4;
    module.def("over", &py_over, py::arg("plate"), py::arg("layer"), py::arg("plate_encoded"),
               py::arg("blend_encoded"), py::arg("code_bits"));
    module.def("outlined_alpha", &py_plate_alpha, py::arg("alpha"), py::arg("fit"), py::arg("edge"), py::arg("plate"),
               py::arg("steepness"), py::arg("height"), py::arg("width"), py::arg("part"));
    module.def("plate_color", &py_plate_color, py::arg("color"), py::arg("alpha"), py::arg("height"),
               py::arg("width"), py::arg("part"));
    module.def("area_means", &py_area_means, py::arg("codes"), py::arg("table"), py::arg("height"), py::arg("width"));
    module.def("area_planes", &py_area_planes, py::arg("planes"), py::arg("height"), py::arg("width"),
               py::arg("threads"));
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
    module.def("shrink", &py_shrink, py::arg("image"), py::arg("height"), py::arg("width"), py::arg("part"),
               py::arg("most"));
    module.def("alpha_box", &py_alpha_box, py::arg("layer"));
    module.def("half_to_double", py::vectorize(half_to_double), py::arg("bits"));
    module.def("double_to_half", py::vectorize(double_to_half), py::arg("value"));
}
