"""Owns one thread that writes and syncs without ever taking the GIL.

Theory of operation. A worker thread of Python's needs the GIL to begin and to end a
job; while the event loop computes, it waits for it up to the switch interval (5 ms),
often many times over. This thread needs it never: it sleeps in `read` on an eventfd,
does the job that `submit_*` put into one slot of plain C values, stores the outcome,
and wakes the event loop through a second eventfd. Only one job is in the slot at a
time, and the two eventfds order the accesses to it: whoever read last owns the slot.
Python keeps the buffers alive until `result` is called.

    event loop: fill slot, write(request) ----> thread: read(request), work
    event loop: poll(done), read(done), result <---- thread: write(done)
"""

import os
import threading

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.errno cimport EINTR, EIO, errno as c_errno
from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport rename

cdef extern from "<fcntl.h>" nogil:
    int posix_fallocate(int fd, int64_t offset, int64_t size)

cdef extern from "<unistd.h>" nogil:
    int fdatasync(int fd)
    int fsync(int fd)
    int unlink(const char *path)
    Py_ssize_t read(int fd, void *data, size_t size)
    Py_ssize_t write(int fd, const void *data, size_t size)

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    Py_ssize_t pwritev(int fd, const iovec *parts, int count, int64_t offset)

cdef extern from "<time.h>" nogil:
    struct timespec:
        int64_t tv_sec
        int64_t tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *at)

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int POLLIN
    int poll(pollfd *fds, unsigned long count, int timeout_ms)
    int ppoll(pollfd *fds, unsigned long count, const timespec *limit, void *mask)

cdef enum:
    PARTS_MAX = 8

cdef enum Kind:
    COMMIT = 1
    PUBLISH = 2
    PREALLOCATE = 3
    RENAME = 4
    REMOVE = 5
    STOP = 6

# What was being done when it failed; the meaning of an error depends on it.
STEPS = (
    "nothing",
    "write",
    "sync",
    "rename",
    "sync of the folder",
    "preallocation",
    "removal",
)

cdef enum Step:
    NOTHING = 0
    WRITE = 1
    SYNC = 2
    MOVE = 3
    SYNC_FOLDER = 4
    ALLOCATE = 5
    UNLINK = 6

cdef struct Job:
    int kind
    int fd
    int folder_fd
    int part_count
    int64_t offset
    int64_t size
    iovec parts[PARTS_MAX]
    const char *source
    const char *target
    int error
    int step
    int64_t elapsed_ns

cdef int64_t now_ns() noexcept nogil:
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return at.tv_sec * 1_000_000_000 + at.tv_nsec

cdef int write_all(Job *job) noexcept nogil:
    """0, or errno. A short write goes on where it stopped."""
    cdef iovec *parts = job.parts
    cdef int count = job.part_count
    cdef int64_t offset = job.offset
    cdef Py_ssize_t written
    while count > 0:
        if parts.iov_len == 0:
            parts += 1
            count -= 1
            continue
        written = pwritev(job.fd, parts, count, offset)
        if written < 0:
            if c_errno == EINTR:
                continue
            return c_errno
        if written == 0:
            return EIO
        offset += written
        while count > 0 and <size_t>written >= parts.iov_len:
            written -= <Py_ssize_t>parts.iov_len
            parts += 1
            count -= 1
        if count > 0:
            parts.iov_base = <char *>parts.iov_base + written
            parts.iov_len -= <size_t>written
    return 0

cdef void work(Job *job) noexcept nogil:
    """Every step has to succeed before the next; the first failure is kept."""
    cdef int64_t began_ns = now_ns()
    job.error = 0
    job.step = NOTHING
    if job.kind == COMMIT or job.kind == PUBLISH:
        job.step = WRITE
        job.error = write_all(job)
        if job.error == 0:
            job.step = SYNC
            job.error = 0 if fdatasync(job.fd) == 0 else c_errno
    elif job.kind == PREALLOCATE:
        job.step = ALLOCATE
        job.error = EINTR
        while job.error == EINTR:
            job.error = posix_fallocate(job.fd, 0, job.size)
        if job.error == 0:  # still the same step: the file holds nothing to lose
            job.error = 0 if fsync(job.fd) == 0 else c_errno
    elif job.kind == REMOVE:
        job.step = UNLINK
        job.error = 0 if unlink(job.source) == 0 else c_errno
    if job.error == 0 and (job.kind == PUBLISH or job.kind == RENAME):
        job.step = MOVE
        job.error = 0 if rename(job.source, job.target) == 0 else c_errno
        if job.error == 0:
            job.step = SYNC_FOLDER
            job.error = 0 if fsync(job.folder_fd) == 0 else c_errno
    job.elapsed_ns = now_ns() - began_ns

cdef class DiskThread:
    """One job at a time; `fileno` is readable when it is done.

    Used from one thread only. `close` waits for the job in hand to end.
    """

    cdef Job job
    cdef Py_buffer views[PARTS_MAX]
    cdef int view_count
    cdef int request_fd
    cdef int done_fd
    cdef bint busy
    cdef object paths
    cdef object thread

    def __cinit__(self):
        self.request_fd = self.done_fd = -1
        self.view_count = 0
        self.busy = False

    def __init__(self, name="tchatd-disk"):
        assert self.thread is None
        self.request_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self.done_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self.thread.start()

    def _serve(self):
        with nogil:
            self.serve()

    cdef void serve(self) noexcept nogil:
        cdef uint64_t value
        cdef Py_ssize_t size
        while True:
            size = read(self.request_fd, &value, 8)
            if size != 8:
                if size < 0 and c_errno == EINTR:
                    continue
                return
            if self.job.kind == STOP:
                return
            work(&self.job)
            value = 1
            while write(self.done_fd, &value, 8) < 0 and c_errno == EINTR:
                pass

    def fileno(self):
        return self.done_fd

    def is_done(self):
        """Whether `result` has something to give."""
        cdef pollfd one
        one.fd = self.done_fd
        one.events = POLLIN
        return bool(self.busy) and poll(&one, 1, 0) == 1

    def succeeds_within(self, int64_t limit_ns):
        """Wait, without the GIL, at most so long, under a second. True: the job is
        done, nothing failed, and `result` has it. False: it is as if never asked."""
        cdef pollfd one
        cdef timespec limit
        cdef int found
        if not self.busy:
            raise RuntimeError("nothing was submitted")
        one.fd = self.done_fd
        one.events = POLLIN
        limit.tv_sec = 0
        limit.tv_nsec = limit_ns
        with nogil:
            found = ppoll(&one, 1, &limit, NULL)
        return found == 1 and self.job.error == 0

    cdef int submit(self, int kind) except -1:
        cdef uint64_t one = 1
        self.job.kind = kind
        self.busy = True
        if write(self.request_fd, &one, 8) != 8:
            self.busy = False
            raise OSError(c_errno, "the disk thread is gone")
        return 0

    cdef int take_parts(self, int fd, object parts, int64_t offset) except -1:
        cdef int index
        self.check_idle()
        if len(parts) > PARTS_MAX:
            raise ValueError(f"at most {PARTS_MAX} parts")
        for part in parts:
            index = self.view_count
            PyObject_GetBuffer(part, &self.views[index], PyBUF_SIMPLE)
            self.job.parts[index].iov_base = self.views[index].buf
            self.job.parts[index].iov_len = <size_t>self.views[index].len
            self.view_count += 1
        self.job.part_count = self.view_count
        self.job.fd = fd
        self.job.offset = offset
        return 0

    cdef int check_idle(self) except -1:
        if self.busy or self.thread is None:
            raise RuntimeError("the disk thread is busy or closed")
        self.release()
        return 0

    cdef void release(self):
        while self.view_count > 0:
            self.view_count -= 1
            PyBuffer_Release(&self.views[self.view_count])
        self.paths = None

    cdef void take_paths(self, bytes source, bytes target, int folder_fd):
        self.paths = (source, target)
        self.job.source = source
        self.job.target = target
        self.job.folder_fd = folder_fd

    def submit_commit(self, int fd, parts, int64_t offset):
        """Write all parts one after the other at offset, then fdatasync."""
        self.take_parts(fd, parts, offset)
        self.submit(COMMIT)

    def submit_publish(
        self, int fd, parts, bytes source not None, bytes target not None, int folder_fd
    ):
        """Write parts at 0, fdatasync, rename source to target, fsync the folder."""
        self.take_parts(fd, parts, 0)
        self.take_paths(source, target, folder_fd)
        self.submit(PUBLISH)

    def submit_preallocate(self, int fd, int64_t size):
        """posix_fallocate, then fsync: later writes inside need no new space."""
        self.check_idle()
        self.job.fd = fd
        self.job.size = size
        self.submit(PREALLOCATE)

    def submit_rename(
        self, bytes source not None, bytes target not None, int folder_fd
    ):
        self.check_idle()
        self.take_paths(source, target, folder_fd)
        self.submit(RENAME)

    def submit_remove(self, bytes path not None):
        self.check_idle()
        self.take_paths(path, path, -1)
        self.submit(REMOVE)

    def result(self):
        """Nanoseconds that the job took; only after `fileno` was readable.

        Raises:
            BlockingIOError: the job is not done yet.
            OSError: it failed; `step` says where.
        """
        cdef uint64_t value
        if not self.busy:
            raise RuntimeError("nothing was submitted")
        if read(self.done_fd, &value, 8) != 8:
            raise BlockingIOError(c_errno, "the job is not done")
        self.busy = False
        self.release()
        if self.job.error != 0:
            raise OSError(self.job.error, os.strerror(self.job.error))
        return self.job.elapsed_ns

    @property
    def step(self):
        """The last step that was begun; read it only while no job is in hand."""
        return STEPS[self.job.step]

    def close(self):
        """Waits for the job in hand, without the GIL; idempotent."""
        cdef uint64_t one = 1
        if self.thread is None:
            return
        if self.busy:
            # The slot is the thread's until it says done: wait for that first.
            os.set_blocking(self.done_fd, True)
            os.read(self.done_fd, 8)
            self.busy = False
        self.job.kind = STOP
        write(self.request_fd, &one, 8)
        self.thread.join()
        self.thread = None
        self.release()
        os.close(self.request_fd)
        os.close(self.done_fd)
        self.request_fd = self.done_fd = -1

    def __dealloc__(self):
        # The thread holds a reference to its bound method, so it has ended by now.
        while self.view_count > 0:
            self.view_count -= 1
            PyBuffer_Release(&self.views[self.view_count])
