/* What Python's own calls on files lack: mappings that survive what cannot be read, many short reads at once, and a
 * hint to the disk.
 *
 * In a mapped file the process sees the pages of the system's cache themselves, which spares the copy that read() makes
 * and that costs more than most of what is done with the bytes. What cannot be read, because the file was cut or the
 * disk fails, is a bus error at whatever instruction looked there. The handler marks the mapping as damaged and puts
 * zeros in place of the rest of it, so that the instruction goes on: whoever uses a mapping asks for the mark before
 * anything made of its bytes counts.
 *
 * Short runs that lie far apart are read: a page that is looked at for the first time costs more than a short copy. */

#ifndef __linux__
#error "tried on Linux alone: elsewhere mull reads files"
#endif
#define Py_LIMITED_API 0x030B0000
#define _GNU_SOURCE
#include <Python.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PLACES 4096 /* mappings at a time */

#if ATOMIC_INT_LOCK_FREE != 2 || ATOMIC_POINTER_LOCK_FREE != 2
#error "a signal handler needs atomics without locks"
#endif

/* One mapping. The handler may run on any thread while another adds or removes one, so `start` and `length` are read as
 * a pair: both belong together where `version` is even and the same before and after. Only holders of the GIL write. */
typedef struct {
    atomic_uint version;
    _Atomic(uintptr_t) start, length; /* length 0: no mapping */
    atomic_int damaged;
} Place;

static Place places[PLACES];
static struct sigaction earlier[2];                /* the one that is not `before` may be written to */
static _Atomic(const struct sigaction *) before;   /* what was done about bus errors until then */
static atomic_int handed_on;
static uintptr_t page; /* written once, before there is a handler */

static void set_place(Place *place, uintptr_t start, uintptr_t length) {
    unsigned version = atomic_load_explicit(&place->version, memory_order_relaxed);
    atomic_store_explicit(&place->version, version + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&place->start, start, memory_order_relaxed);
    atomic_store_explicit(&place->length, length, memory_order_relaxed);
    atomic_store_explicit(&place->version, version + 2, memory_order_release);
}

/* A place that is being written to is not the one that was looked at: a mapping stays while it is in use. */
static int get_place(Place *place, uintptr_t *start, uintptr_t *length) {
    unsigned version = atomic_load_explicit(&place->version, memory_order_acquire);
    *start = atomic_load_explicit(&place->start, memory_order_relaxed);
    *length = atomic_load_explicit(&place->length, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    return !(version & 1) && atomic_load_explicit(&place->version, memory_order_relaxed) == version;
}

static int mend(uintptr_t address) {
    for (int i = 0; i < PLACES; i++) {
        uintptr_t start, length, from = address & ~(page - 1);
        if (!get_place(&places[i], &start, &length) || address - start >= length) continue;
        atomic_store(&places[i].damaged, 1); /* before anybody can see the zeros */
        return mmap((void *)from, start + length - from, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
               MAP_FAILED;
    }
    return 0;
}

static void on_bus_error(int number, siginfo_t *info, void *context) {
    int saved = errno, sent = info->si_code == SI_USER;
    const struct sigaction *first = atomic_load(&before);
    if (!(info->si_code > 0 && mend((uintptr_t)info->si_addr))) { /* not the system's, or elsewhere */
        int again = atomic_exchange(&handed_on, !sent) && !sent; /* whoever was before us has had it */
        if (!again && first->sa_flags & SA_SIGINFO) {
            first->sa_sigaction(number, info, context);
        } else if (!again && first->sa_handler != SIG_DFL && first->sa_handler != SIG_IGN) {
            first->sa_handler(number);
        } else if (again || !sent || first->sa_handler != SIG_IGN) {
            struct sigaction plain;
            memset(&plain, 0, sizeof plain);
            plain.sa_handler = SIG_DFL;
            sigaction(number, &plain, NULL);
            if (info->si_code <= 0) raise(number); /* else the instruction fails again by itself */
        }
    }
    errno = saved;
}

/* Takes the signal, anew where others have taken it since: those come after us. */
static int take_signal(void) {
    struct sigaction now, ours;
    if (sigaction(SIGBUS, NULL, &now) < 0) return 0;
    if (now.sa_flags & SA_SIGINFO && now.sa_sigaction == on_bus_error) return 1;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = on_bus_error;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    struct sigaction *spare = atomic_load(&before) == &earlier[0] ? &earlier[1] : &earlier[0];
    *spare = now;
    atomic_store(&before, spare);
    atomic_store(&handed_on, 0);
    return sigaction(SIGBUS, &ours, NULL) == 0;
}

typedef struct {
    PyObject_HEAD
    Place *place;
} Mapping;

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    int descriptor;
    Py_ssize_t length;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "in", &descriptor, &length)) return NULL;
    if (length < 1) {
        PyErr_SetString(PyExc_ValueError, "nothing to map");
        return NULL;
    }
    Place *place = places;
    while (place < places + PLACES && atomic_load(&place->length)) place++;
    if (place == places + PLACES || !take_signal()) {
        PyErr_SetString(PyExc_OSError, place == places + PLACES ? "too many files are mapped" : "bus errors cannot be handled");
        return NULL;
    }
    void *start = mmap(NULL, (size_t)length, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (start == MAP_FAILED) return PyErr_SetFromErrno(PyExc_OSError);
    Mapping *self = (Mapping *)PyType_GenericAlloc(type, 0);
    if (!self) {
        munmap(start, (size_t)length);
        return NULL;
    }
    atomic_store(&place->damaged, 0);
    set_place(place, (uintptr_t)start, (uintptr_t)length);
    self->place = place;
    return (PyObject *)self;
}

static void dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    Place *place = ((Mapping *)object)->place;
    if (place) {
        uintptr_t start = place->start, length = place->length;
        set_place(place, 0, 0); /* first: its addresses may soon be another's */
        munmap((void *)start, length);
    }
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static int getbuffer(PyObject *object, Py_buffer *view, int flags) {
    Place *place = ((Mapping *)object)->place;
    /* Not marked as read-only: torch warns of such memory, and has no tensors that cannot be written to. */
    return PyBuffer_FillInfo(view, object, (void *)place->start, (Py_ssize_t)place->length, 0, flags);
}

static Py_ssize_t length(PyObject *object) { return (Py_ssize_t)((Mapping *)object)->place->length; }

static PyObject *damaged(PyObject *object, PyObject *none) {
    (void)none;
    return PyBool_FromLong(atomic_load(&((Mapping *)object)->place->damaged));
}

static PyObject *release(PyObject *object, PyObject *none) {
    Place *place = ((Mapping *)object)->place;
    (void)none;
    madvise((void *)place->start, place->length, MADV_DONTNEED);
    Py_INCREF(Py_None);
    return Py_None;
}

static PyMethodDef methods[] = {
    {"damaged", damaged, METH_NOARGS, "damaged(): whether a page that was looked at could not be read. It holds zeros."},
    {"release", release, METH_NOARGS,
     "release(): stop counting the pages as this process's memory. They may still be looked at."},
    {NULL, NULL, 0, NULL},
};

static PyObject *read_runs(PyObject *self, PyObject *args) {
    int descriptor, whole = 1;
    Py_ssize_t length;
    Py_buffer offsets, into;
    (void)self;
    if (!PyArg_ParseTuple(args, "iy*nw*", &descriptor, &offsets, &length, &into)) return NULL;
    Py_ssize_t many = offsets.len / (Py_ssize_t)sizeof(int64_t);
    if (length < 0 || (length && many > into.len / length)) { /* the product might overflow */
        PyErr_SetString(PyExc_ValueError, "no room for the runs");
        whole = -1;
    } else {
        Py_BEGIN_ALLOW_THREADS;
        for (Py_ssize_t i = 0; whole && i < many; i++) {
            int64_t offset = ((const int64_t *)offsets.buf)[i];
            whole = pread(descriptor, (char *)into.buf + i * length, (size_t)length, (off_t)offset) == length;
        }
        Py_END_ALLOW_THREADS;
    }
    PyBuffer_Release(&offsets);
    PyBuffer_Release(&into);
    return whole < 0 ? NULL : PyBool_FromLong(whole);
}

static PyObject *write_back(PyObject *self, PyObject *args) {
    int descriptor;
    long long offset, length;
    (void)self;
    if (!PyArg_ParseTuple(args, "iLL", &descriptor, &offset, &length)) return NULL;
    Py_BEGIN_ALLOW_THREADS;
    sync_file_range(descriptor, offset, length, SYNC_FILE_RANGE_WRITE);
    Py_END_ALLOW_THREADS;
    Py_INCREF(Py_None);
    return Py_None;
}

static PyType_Slot slots[] = {
    {Py_tp_doc, "Mapping(descriptor, length): the first `length` bytes of an open file, as a buffer. It must not be written to."},
    {Py_tp_new, new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {Py_sq_length, length},
    {Py_bf_getbuffer, getbuffer},
    {0, NULL},
};

static PyType_Spec spec = {"mull.checkpoints._files.Mapping", sizeof(Mapping), 0, Py_TPFLAGS_DEFAULT, slots};

static PyMethodDef functions[] = {
    {"read_runs", read_runs, METH_VARARGS,
     "read_runs(descriptor, offsets, length, into): `length` bytes from each of the offsets (int64) on, one after the other.\n"
     "False if one of them could not be read at once."},
    {"write_back", write_back, METH_VARARGS,
     "write_back(descriptor, offset, length): let the disk begin with what was written there. Promises nothing: fsync does."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_files", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__files(void) {
    page = (uintptr_t)sysconf(_SC_PAGESIZE);
    PyObject *self = PyModule_Create(&module), *type = PyType_FromSpec(&spec);
    if (!self || !type || PyModule_AddObjectRef(self, "Mapping", type) < 0) {
        Py_XDECREF(self);
        self = NULL;
    }
    Py_XDECREF(type);
    return self;
}
