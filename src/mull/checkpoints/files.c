/* File operations that Python does not offer: mapped files that survive read errors, many short reads in one call, and
 * a hint to the disk that it may begin to write.
 *
 * A mapped file gives the process the pages of the system's cache themselves. This avoids the copy that read() makes,
 * which costs more than most of the work on the bytes. But if a page cannot be read, because the file was truncated or
 * the disk fails, the instruction that reads it raises a bus error (SIGBUS). The signal handler here marks the mapping
 * as damaged and replaces the rest of it with zeros, so that the instruction can continue. Callers must therefore ask
 * `damaged()` before they use anything computed from a mapping.
 *
 * Short runs that lie far apart are read with pread: the first access to a page costs more than a short copy. */

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

#define MAX_MAPPINGS 4096 /* how many files can be mapped at the same time */

#if ATOMIC_INT_LOCK_FREE != 2 || ATOMIC_POINTER_LOCK_FREE != 2
#error "a signal handler needs atomics without locks"
#endif

/* One mapping. The handler may run on any thread while another thread adds or removes a mapping, so `start` and
 * `length` are read as a pair (a seqlock): they belong together if `version` is even and the same before and after.
 * Only a thread that holds the GIL writes. */
typedef struct {
    atomic_uint version;
    _Atomic(uintptr_t) start, length; /* length 0: this entry is free */
    atomic_int damaged;
} MappedRange;

static MappedRange mapped_ranges[MAX_MAPPINGS];
static struct sigaction saved_handlers[2]; /* `previous_handler` points to one; the other may be written */
static _Atomic(const struct sigaction *) previous_handler; /* the action for bus errors before ours */
static atomic_int passed_on; /* whether a bus error was already passed to the previous handler */
static uintptr_t page_size; /* written once, before there is a handler */

static void set_range(MappedRange *range, uintptr_t start, uintptr_t length) {
    unsigned version = atomic_load_explicit(&range->version, memory_order_relaxed);
    atomic_store_explicit(&range->version, version + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&range->start, start, memory_order_relaxed);
    atomic_store_explicit(&range->length, length, memory_order_relaxed);
    atomic_store_explicit(&range->version, version + 2, memory_order_release);
}

/* Returns 0 if the entry is being written. It then is not the one that caused the bus error, because a mapping stays as
 * long as it is in use. */
static int get_range(MappedRange *range, uintptr_t *start, uintptr_t *length) {
    unsigned version = atomic_load_explicit(&range->version, memory_order_acquire);
    *start = atomic_load_explicit(&range->start, memory_order_relaxed);
    *length = atomic_load_explicit(&range->length, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    return !(version & 1) && atomic_load_explicit(&range->version, memory_order_relaxed) == version;
}

/* If `address` lies in one of the mappings, marks it as damaged and puts zeros from that page to its end. Runs inside
 * the signal handler, so it only uses atomics and mmap. */
static int replace_with_zeros(uintptr_t address) {
    for (int i = 0; i < MAX_MAPPINGS; i++) {
        uintptr_t start, length, from = address & ~(page_size - 1);
        if (!get_range(&mapped_ranges[i], &start, &length) || address - start >= length) continue;
        atomic_store(&mapped_ranges[i].damaged, 1); /* before any thread can read the zeros */
        return mmap((void *)from, start + length - from, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
               MAP_FAILED;
    }
    return 0;
}

/* Handles bus errors in our mappings. All others go to the previous handler, or, if that has already had its chance, to
 * the default action, which ends the process. */
static void on_bus_error(int number, siginfo_t *info, void *context) {
    int saved = errno, sent_by_process = info->si_code == SI_USER;
    const struct sigaction *previous = atomic_load(&previous_handler);
    if (!(info->si_code > 0 && replace_with_zeros((uintptr_t)info->si_addr))) {
        /* Sent by a process, or not in a mapping of ours. */
        int second_time = atomic_exchange(&passed_on, !sent_by_process) && !sent_by_process;
        if (!second_time && previous->sa_flags & SA_SIGINFO) {
            previous->sa_sigaction(number, info, context);
        } else if (!second_time && previous->sa_handler != SIG_DFL && previous->sa_handler != SIG_IGN) {
            previous->sa_handler(number);
        } else if (second_time || !sent_by_process || previous->sa_handler != SIG_IGN) {
            struct sigaction default_action;
            memset(&default_action, 0, sizeof default_action);
            default_action.sa_handler = SIG_DFL;
            sigaction(number, &default_action, NULL);
            if (info->si_code <= 0) raise(number); /* otherwise the instruction runs and fails again */
        }
    }
    errno = saved;
}

/* Installs our handler for SIGBUS, again if other code has replaced it since: that code's handler comes after ours. */
static int install_handler(void) {
    struct sigaction now, ours;
    if (sigaction(SIGBUS, NULL, &now) < 0) return 0;
    if (now.sa_flags & SA_SIGINFO && now.sa_sigaction == on_bus_error) return 1;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = on_bus_error;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    int first_is_used = atomic_load(&previous_handler) == &saved_handlers[0];
    struct sigaction *spare = &saved_handlers[first_is_used];
    *spare = now;
    atomic_store(&previous_handler, spare);
    atomic_store(&passed_on, 0);
    return sigaction(SIGBUS, &ours, NULL) == 0;
}

typedef struct {
    PyObject_HEAD
    MappedRange *range;
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
    MappedRange *range = mapped_ranges;
    while (range < mapped_ranges + MAX_MAPPINGS && atomic_load(&range->length)) range++;
    if (range == mapped_ranges + MAX_MAPPINGS || !install_handler()) {
        int full = range == mapped_ranges + MAX_MAPPINGS;
        PyErr_SetString(PyExc_OSError, full ? "too many files are mapped" : "bus errors cannot be handled");
        return NULL;
    }
    void *start = mmap(NULL, (size_t)length, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (start == MAP_FAILED) return PyErr_SetFromErrno(PyExc_OSError);
    Mapping *self = (Mapping *)PyType_GenericAlloc(type, 0);
    if (!self) {
        munmap(start, (size_t)length);
        return NULL;
    }
    atomic_store(&range->damaged, 0);
    set_range(range, (uintptr_t)start, (uintptr_t)length);
    self->range = range;
    return (PyObject *)self;
}

static void dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    MappedRange *range = ((Mapping *)object)->range;
    if (range) {
        uintptr_t start = range->start, length = range->length;
        set_range(range, 0, 0); /* before munmap: its addresses may be reused at once */
        munmap((void *)start, length);
    }
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static int getbuffer(PyObject *object, Py_buffer *view, int flags) {
    MappedRange *range = ((Mapping *)object)->range;
    /* Not marked as read-only, though it is: torch has no read-only tensors and warns about such buffers. */
    return PyBuffer_FillInfo(view, object, (void *)range->start, (Py_ssize_t)range->length, 0, flags);
}

static Py_ssize_t length(PyObject *object) { return (Py_ssize_t)((Mapping *)object)->range->length; }

static PyObject *damaged(PyObject *object, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(atomic_load(&((Mapping *)object)->range->damaged));
}

static PyObject *release(PyObject *object, PyObject *unused) {
    MappedRange *range = ((Mapping *)object)->range;
    (void)unused;
    madvise((void *)range->start, range->length, MADV_DONTNEED);
    Py_INCREF(Py_None);
    return Py_None;
}

static PyMethodDef methods[] = {
    {"damaged", damaged, METH_NOARGS, 
     "damaged(): whether a page could not be read when it was accessed. Such pages hold zeros."},
    {"release", release, METH_NOARGS,
     "release(): stop counting the pages as this process's memory. They may still be read."},
    {NULL, NULL, 0, NULL},
};

static PyObject *read_runs(PyObject *self, PyObject *args) {
    int descriptor, complete = 1;
    Py_ssize_t length;
    Py_buffer offsets, into;
    (void)self;
    if (!PyArg_ParseTuple(args, "iy*nw*", &descriptor, &offsets, &length, &into)) return NULL;
    Py_ssize_t run_count = offsets.len / (Py_ssize_t)sizeof(int64_t);
    if (length < 0 || (length && run_count > into.len / length)) { /* a product might overflow */
        PyErr_SetString(PyExc_ValueError, "no room for the runs");
        complete = -1;
    } else {
        Py_BEGIN_ALLOW_THREADS;
        for (Py_ssize_t i = 0; complete && i < run_count; i++) {
            int64_t offset = ((const int64_t *)offsets.buf)[i];
            complete = pread(descriptor, (char *)into.buf + i * length, (size_t)length, (off_t)offset) == length;
        }
        Py_END_ALLOW_THREADS;
    }
    PyBuffer_Release(&offsets);
    PyBuffer_Release(&into);
    return complete < 0 ? NULL : PyBool_FromLong(complete);
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
    {Py_tp_doc,
     "Mapping(descriptor, length): the first `length` bytes of an open file, as a buffer. It must not be written to."},
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
     "read_runs(descriptor, offsets, length, into): read `length` bytes at each of the offsets (int64) into the\n"
     "buffer, one run after the other. False if one of them could not be read in a single call."},
    {"write_back", write_back, METH_VARARGS,
     "write_back(descriptor, offset, length): let the disk begin to write these bytes. No guarantee: call fsync."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_files", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__files(void) {
    page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    PyObject *self = PyModule_Create(&module), *type = PyType_FromSpec(&spec);
    if (!self || !type || PyModule_AddObjectRef(self, "Mapping", type) < 0) {
        Py_XDECREF(self);
        self = NULL;
    }
    Py_XDECREF(type);
    return self;
}
