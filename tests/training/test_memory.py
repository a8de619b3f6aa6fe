import ctypes
import platform
import resource

import pytest

from facegen.training.memory import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again_without_the_kernel() -> None:
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    size = 2**26

    def faults_of_a_step() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = library.malloc(size)
        ctypes.memset(block, 1, size)
        library.free(block)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    assert keep_freed_memory()
    first = faults_of_a_step()

    again = faults_of_a_step()

    assert again < 0.01 * size / resource.getpagesize()
    assert again <= first
