from kernels import over
def test_native(): assert over.IMPLEMENTATION == "native"
