"""Memory shared with other libraries through DLPack: values, lifetime, flags and errors, both ways."""

import ctypes
import gc
import weakref

import numpy as np
import pytest
import torch
from reference import to_float64

import pymodel as pm
from pymodel import _core
from pymodel.errors import DeviceError

TORCH_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
SHAPES = [(), (1,), (5,), (2, 3), (2, 1, 3), (0,), (3, 0, 2), (1, 2, 1, 2, 1, 2, 1, 2)]


def values_of(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape) % 7


class Producer:
    """Anything with the two methods of the protocol and nothing else, like an array of JAX."""

    def __init__(self, array: object):
        self.array = array
        self.options: dict[str, object] = {}

    def __dlpack__(self, **options: object) -> object:
        self.options = options
        return self.array.__dlpack__(**options)  # type: ignore[attr-defined]

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()  # type: ignore[attr-defined]


class OldProducer(Producer):
    """A producer from before DLPack 1.0."""

    def __dlpack__(self, stream: object = None) -> object:  # type: ignore[override]
        return self.array.__dlpack__()  # type: ignore[attr-defined]


# -- taking -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TORCH_DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("wrap", [lambda t: t, Producer, OldProducer, lambda t: t.__dlpack__()])
def test_dlpack_takes_torch_memory(shape, dtype, wrap):
    theirs = torch.tensor(values_of(shape)).to(TORCH_DTYPES[dtype])
    ours = pm.from_dlpack(wrap(theirs))
    assert (ours.shape, ours.dtype) == (shape, dtype)
    assert ours.device == "cpu"
    assert ours.numel() == 0 or ours.data_ptr() == theirs.data_ptr()
    np.testing.assert_array_equal(to_float64(ours), to_float64(theirs))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64"])
def test_dlpack_takes_strided_torch_memory(dtype):
    base = torch.tensor(values_of((6, 4, 5))).to(TORCH_DTYPES[dtype])
    for theirs in (base[1::2, :, 2:].transpose(0, 2), base[:, 1], base[:1].expand(3, 4, 5), base.mT):
        ours = pm.from_dlpack(theirs)
        assert ours.data_ptr() == theirs.data_ptr()
        np.testing.assert_array_equal(to_float64(ours), to_float64(theirs))


def test_dlpack_takes_the_versioned_message_when_offered():
    producer = Producer(np.ones(3, dtype=np.float32))
    pm.from_dlpack(producer)
    assert producer.options == {"max_version": (1, 0)}


def test_dlpack_writes_show_on_both_sides():
    theirs = torch.zeros(3, 2)
    ours = pm.from_dlpack(theirs)
    theirs[1, 1] = 5
    ours.numpy()[2, 0] = 7
    np.testing.assert_array_equal(ours.numpy(), [[0, 0], [0, 5], [7, 0]])
    np.testing.assert_array_equal(theirs.numpy(), [[0, 0], [0, 5], [7, 0]])


def test_dlpack_takes_numpy_arrays_of_every_dtype():
    for dtype in TORCH_DTYPES:
        array = pm.tensor(values_of((2, 3)), dtype=dtype).numpy()
        ours = pm.from_dlpack(array)
        assert ours.dtype == dtype
        assert ours.data_ptr() == array.ctypes.data


def test_dlpack_keeps_the_producer_alive():
    array = np.arange(1000, dtype=np.float32)
    alive = weakref.ref(array)
    ours = pm.from_dlpack(Producer(array))
    part = pm.Tensor(ours._array.slice(0, 10, 20, 1))
    del array, ours
    gc.collect()
    assert alive() is not None
    np.testing.assert_array_equal(part.numpy(), np.arange(10, 20))
    view = part.numpy()
    del part
    gc.collect()
    np.testing.assert_array_equal(view, np.arange(10, 20))
    del view
    gc.collect()
    assert alive() is None, "the deleter was not called when the last view went"


def test_dlpack_numpy_memory_is_kept_and_released_by_from_numpy():
    array = np.arange(8, dtype=np.float32)
    alive = weakref.ref(array)
    ours = pm.from_numpy(array)
    del array
    gc.collect()
    assert ours.tolist() == list(range(8))
    del ours
    gc.collect()
    assert alive() is None


def test_dlpack_capsule_is_consumed_once():
    capsule = torch.zeros(2).__dlpack__()
    ours = pm.from_dlpack(capsule)
    with pytest.raises(ValueError, match="consumed before"):
        pm.from_dlpack(capsule)
    del capsule
    gc.collect()
    assert ours.tolist() == [0.0, 0.0]


def test_dlpack_read_only_memory_stays_read_only():
    array = np.arange(3, dtype=np.float32)
    array.flags.writeable = False
    for source in (Producer(array), array):
        ours = pm.from_dlpack(source)
        assert ours.data_ptr() == array.ctypes.data
        assert not ours.numpy().flags.writeable
        assert not np.from_dlpack(ours).flags.writeable
        with pytest.raises(BufferError, match=r"read-only.*clone"):
            ours.__dlpack__()


@pytest.mark.parametrize(
    ("dtype", "name", "way_out"),
    [
        (torch.float64, "float64", r"\.float\(\)"),
        (torch.complex64, "complex64", r"\.real"),
        (torch.int16, "int16", r"\.long\(\)"),
        (torch.int8, "int8", r"\.long\(\)"),
    ],
)
def test_dlpack_names_a_dtype_without_counterpart(dtype, name, way_out):
    with pytest.raises(TypeError, match=f"float32, float16, bfloat16.*got {name}; .*{way_out}"):
        pm.from_dlpack(torch.zeros(2, dtype=dtype))
    if name == "float64":
        with pytest.raises(TypeError, match=r"float64.*astype"):
            pm.from_dlpack(np.zeros(2))


def test_dlpack_rejects_what_is_no_array():
    with pytest.raises(TypeError, match="expected an object with __dlpack__ or a DLPack capsule, got list"):
        pm.from_dlpack([1, 2])


def test_dlpack_rejects_negative_strides():
    array = np.arange(4, dtype=np.float32)[::-1]
    for source in (Producer(array), array):
        with pytest.raises(ValueError, match="negative strides"):
            pm.from_dlpack(source)


def test_dlpack_more_dimensions_than_ours_release_the_memory():
    array = np.zeros((1,) * 9, dtype=np.float32)
    alive = weakref.ref(array)
    with pytest.raises(ValueError, match="at most 8 dimensions"):
        pm.from_dlpack(Producer(array))
    del array
    gc.collect()
    assert alive() is None


# -- messages that no library on this machine sends ---------------------------------------------------


class Message(ctypes.Structure):
    """DLManagedTensorVersioned, laid out a second time so that the C++ layout is checked against it."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("owner", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_index", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class HandMade:
    """A capsule around two float32 numbers, with whatever fields a test wants to send."""

    def __init__(self, **fields: int):
        self.memory = (ctypes.c_float * 4)(0.0, 1.0, 2.0, 3.0)
        self.shape = (ctypes.c_int64 * 1)(2)
        self.deleted = 0
        self.deleter = DELETER(self._delete)
        self.message = Message(
            major=1, data=ctypes.addressof(self.memory), device_type=1, ndim=1, code=2, bits=32, lanes=1
        )
        self.message.shape = ctypes.cast(self.shape, ctypes.POINTER(ctypes.c_int64))
        self.message.deleter = ctypes.cast(self.deleter, ctypes.c_void_p)
        for name, value in fields.items():
            setattr(self.message, name, value)
        make = ctypes.pythonapi.PyCapsule_New
        make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        self.capsule = make(ctypes.addressof(self.message), b"dltensor_versioned", None)

    def _delete(self, pointer: int) -> None:
        self.deleted += 1


def test_dlpack_honours_offset_and_missing_strides():
    made = HandMade(byte_offset=8)
    ours = pm.from_dlpack(made.capsule)
    assert ours.tolist() == [2.0, 3.0]
    assert made.deleted == 0
    del ours
    gc.collect()
    assert made.deleted == 1


def test_dlpack_takes_pinned_memory_as_memory_of_the_cpu():
    assert pm.from_dlpack(HandMade(device_type=3).capsule).device == "cpu"


@pytest.mark.parametrize(("kind", "name"), [(2, "cuda:1"), (10, "rocm:1"), (77, "DLPack device type 77:1")])
def test_dlpack_names_the_device_that_is_missing(kind, name):
    made = HandMade(device_type=kind, device_index=1)
    with pytest.raises(DeviceError, match=rf"lies on {name}.*\.cpu\(\)"):
        pm.from_dlpack(made.capsule)
    assert made.deleted == 0, "the capsule still owns memory that was not taken"


def test_dlpack_does_not_read_messages_of_another_major_version():
    with pytest.raises(BufferError, match=r"DLPack 2\.5, expected version 1"):
        pm.from_dlpack(HandMade(major=2, minor=5).capsule)


def test_dlpack_rejects_vector_types():
    with pytest.raises(TypeError, match="float32 in vectors of 4"):
        pm.from_dlpack(HandMade(lanes=4).capsule)


# -- giving -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TORCH_DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dlpack_gives_memory_to_torch(shape, dtype):
    ours = pm.tensor(values_of(shape), dtype=dtype)
    theirs = torch.from_dlpack(ours)
    assert tuple(theirs.shape) == shape
    assert theirs.dtype == TORCH_DTYPES[dtype]
    assert theirs.numel() == 0 or theirs.data_ptr() == ours.data_ptr()
    np.testing.assert_array_equal(to_float64(ours), to_float64(theirs))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "int64", "uint8", "bool"])
def test_dlpack_gives_memory_to_numpy(dtype):
    ours = pm.tensor(values_of((3, 4)), dtype=dtype)
    array = np.from_dlpack(ours)
    assert array.dtype.name == dtype
    array[1, 2] = 1
    assert ours.numpy()[1, 2] == 1
    assert np.shares_memory(array, ours.numpy())


def test_dlpack_gives_strided_memory():
    ours = pm.Tensor(pm.tensor(values_of((4, 6)), dtype="float32")._array.slice(1, 1, 6, 2).permute([1, 0]))
    expected = values_of((4, 6))[:, 1::2].T
    for theirs in (torch.from_dlpack(ours).numpy(), np.from_dlpack(ours)):
        np.testing.assert_array_equal(theirs, expected)
        theirs[0, 3] += 100
        expected[0, 3] += 100
    np.testing.assert_array_equal(ours.numpy(), expected)


@pytest.mark.parametrize("max_version", [None, (0, 8), (1, 0), (1, 3)])
def test_dlpack_memory_outlives_the_tensor(max_version):
    before = pm.memory_stats()["in_use"]
    ours = pm.tensor(np.arange(100_000, dtype=np.float32))
    theirs = torch.from_dlpack(pm.Tensor(_copied(ours)).__dlpack__(max_version=max_version))
    del ours
    gc.collect()
    assert theirs[-1] == 99_999
    assert pm.memory_stats()["in_use"] > before
    del theirs
    gc.collect()
    assert pm.memory_stats()["in_use"] == before


def _copied(tensor: pm.Tensor) -> _core.Array:
    """The values in memory of our own allocator rather than NumPy's."""
    copy = tensor._array.empty_like()
    copy.numpy()[...] = tensor.numpy()
    return copy


@pytest.mark.parametrize("max_version", [None, (1, 0)])
def test_dlpack_capsule_that_nobody_takes_releases_its_memory(max_version):
    before = pm.memory_stats()["in_use"]
    capsule = pm.empty((100_000,)).__dlpack__(max_version=max_version)
    assert pm.memory_stats()["in_use"] > before
    del capsule
    gc.collect()
    assert pm.memory_stats()["in_use"] == before


def test_dlpack_round_trip_shares_memory():
    ours = pm.tensor(values_of((2, 3)), dtype="bfloat16")
    back = pm.from_dlpack(torch.from_dlpack(ours))
    assert back.data_ptr() == ours.data_ptr()
    assert pm.from_dlpack(ours).data_ptr() == ours.data_ptr()


def test_dlpack_copy_is_the_consumers_own():
    ours = pm.ones((4,))
    theirs = torch.from_dlpack(ours.__dlpack__(copy=True, max_version=(1, 0)))
    theirs[0] = 9
    assert ours.tolist() == [1.0] * 4
    assert torch.from_dlpack(ours.__dlpack__(copy=False)).data_ptr() == ours.data_ptr()


def test_dlpack_names_a_stream_or_device_it_cannot_serve():
    ours = pm.empty((2,))
    assert ours.__dlpack_device__() == (1, 0)
    ours.__dlpack__(stream=-1, dl_device=(1, 0))
    with pytest.raises(ValueError, match=r"no stream, expected None, got 3"):
        ours.__dlpack__(stream=3)
    with pytest.raises(BufferError, match=r"lies on cpu"):
        ours.__dlpack__(dl_device=(2, 0))


def test_dlpack_of_a_parameter_leaves_the_tape_alone():
    weight = pm.tensor(np.ones(3, np.float32), requires_grad=True)
    torch.from_dlpack(weight)[0] = 4
    assert weight.tolist() == [4.0, 1.0, 1.0]
    assert weight.requires_grad
    assert weight.is_leaf
