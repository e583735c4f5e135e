// The Python face of the native kernels: kernels._native. Arguments are checked
// in kernels/over.py; here only what memory safety needs.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "half.hpp"
#include "over.hpp"

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

}  // namespace

PYBIND11_MODULE(_native, module) {
    module.doc() = "Native kernels of Vera; use kernels.over.";
    module.def("over", &py_over, py::arg("plate"), py::arg("layer"), py::arg("plate_encoded"),
               py::arg("blend_encoded"), py::arg("code_bits"));
    module.def("half_to_double", py::vectorize(half_to_double), py::arg("bits"));
    module.def("double_to_half", py::vectorize(double_to_half), py::arg("value"));
}
