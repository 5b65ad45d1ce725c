"""The kernel's producer of a BPF ring buffer, over plain memory: to teach, and to test consumers without a kernel.

What it does is what kernel/bpf/ringbuf.c of Linux 6.18 does, to the byte: return values, headers, positions and data;
in overwrite mode, what that of Linux 6.19 does.

    >>> ring = SimulatedRing(4096)
    >>> first, second = ring.reserve(3), ring.reserve(20)
    >>> second.discard()                     # not the consumer's next record: nobody is woken
    False
    >>> first.payload[:] = b"abc"
    >>> first.submit()
    True
    >>> [bytes(record) for record in ring.ring().consume()]
    [b'abc']

A record is made in two steps, so that a program may fill it in place while others reserve and commit theirs.

Reserve (__bpf_ringbuf_reserve), under a lock, as the producer position is everyone's; who cannot have the lock, in an
NMI say, gets NULL, which does not happen here:
 1. Round the header (8 bytes) and the payload up to a multiple of 8. No ring takes a payload above a quarter of 2**32,
    and none a record larger than itself.
 2. Move the *pending position*, that of the oldest record not yet committed, over all that have been committed since.
    It is kept behind the producer position, also when step 3 then fails.
 3. Is there room? From the consumer position to the end of the new record there may be at most size - 1 bytes. So a
    ring is never filled to the last byte, and equal positions mean empty. The same from the pending position: user
    space writes the consumer position, and a false one must not have a record overwritten that is being filled.
 4. Write the header: a length word with the BUSY bit, and how many pages the header is away from the start of the
    kernel's `struct bpf_ringbuf`, from which a commit finds the ring again (bpf_ringbuf_rec_pg_off). Three pages come
    before the data: the kernel's own, the consumer page, the producer page.
 5. Only then store the producer position behind the record: a consumer that sees the position sees BUSY, too.
The payload is what the ring held there before. A program that does not overwrite it all sends old bytes again.

Commit (bpf_ringbuf_commit), without the lock, as the record is its owner's:
 1. Exchange the length word for one without BUSY, with DISCARD if the record is to be skipped. This publishes the
    payload. The producer position does not move: records come out in the order of their reservation.
 2. Notify the consumer if the record is the one that it comes to next: consumer and record have the same offset in the
    data. One that is busy with records before this will find it by itself. NO_WAKEUP says not to, FORCE_WAKEUP to do so
    whatever else is said. Other bits mean nothing here. In the kernel several notifications may become one.

Overwrite mode (BPF_F_RB_OVERWRITE) asks no consumer for room. Step 3 looks from the pending position alone, so only a
record that is being filled can be in the way. Then the *overwrite position* moves, record by record, over as many of the
oldest as the new one needs, whether they have been consumed or not. A consumer goes on at its own position or at that
one, whichever is further, and must look at it again when it has copied a record, which may have been overwritten meanwhile.

One thing is not the kernel's. It compares the pending with the producer position as plain numbers, so a ring would be
full for ever soon after its positions had wrapped, at 2**64 bytes. Here they wrap, for consumers to be tested with it.
"""

from __future__ import annotations

from contextlib import suppress

from ..errors import ClosedError, ObjectError
from .pieces import HEADER, POSITIONS, stride
from .ring import BUSY, DISCARD, LENGTH, Ring

NO_WAKEUP, FORCE_WAKEUP = 1, 2  # BPF_RB_NO_WAKEUP, BPF_RB_FORCE_WAKEUP
LARGEST = (1 << 32) // 4 - 1  # bytes of payload: RINGBUF_MAX_RECORD_SZ
EAGAIN, EINVAL = 11, 22  # Linux's, wherever this runs
_PAGES_BEFORE_DATA = 3
_SMALLEST_PAGE = 4096
_PRODUCER, _PENDING, _OVERWRITE = 0, 1, 2  # the 8-byte words of the producer page


class SimulatedRing:
    """A ring in memory of its own, and what BPF programs can do with it.

    `consumer_page`, `producer_page` and `data` are what the kernel maps for a consumer: two pages of `page_size` bytes,
    and the data area of 2 * size bytes, whose halves are kept equal. The consumer position is read from its page at each
    step, so anything that writes it is a consumer. `notifications` counts the wake-ups sent.

    `size` is in bytes, a power of two; the kernel wants whole pages, a small one from 8 bytes on is for looking at.
    `start` is where the positions begin, a multiple of 8; in the kernel that is 0. Raises ObjectError for others.
    `overwrite` is overwrite mode, whose oldest records make room for new ones.

    Producers are whoever holds a Reservation, any number at a time. Threads must take turns.
    """

    def __init__(self, size: int, *, page_size: int = _SMALLEST_PAGE, start: int = 0, overwrite: bool = False) -> None:
        if not _is_power_of_two(size) or size < HEADER:
            raise ObjectError(f"a ring of {size} bytes: it must be a power of two, and at least {HEADER}")
        if not _is_power_of_two(page_size) or page_size < _SMALLEST_PAGE:
            raise ObjectError(f"a page of {page_size} bytes: it must be a power of two, and at least {_SMALLEST_PAGE}")
        if start % HEADER or not 0 <= start <= POSITIONS:
            raise ObjectError(f"start position {start:#x}: it must be a multiple of {HEADER} from 0 to 2**64")
        self.size, self.page_size = size, page_size
        self.consumer_page, self.producer_page = bytearray(page_size), bytearray(page_size)
        self.data = bytearray(2 * size)
        self.notifications = 0
        self._consumer = memoryview(self.consumer_page).cast("Q")
        self._producer = memoryview(self.producer_page).cast("Q")
        self._headers = memoryview(self.data).cast("I")
        self._consumer[0] = self._producer[_PRODUCER] = self._producer[_PENDING] = start
        self._overwrites = overwrite
        if overwrite:
            self._producer[_OVERWRITE] = start

    def ring(self) -> Ring:
        """The same memory as its consumer sees it. A ring has one consumer; make it once."""
        producer, data = memoryview(self.producer_page).toreadonly(), memoryview(self.data).toreadonly()
        return Ring(memoryview(self.consumer_page), producer, data)

    def reserve(self, length: int, flags: int = 0) -> Reservation | None:
        """bpf_ringbuf_reserve: a place for `length` bytes, which may be 0. None where the kernel says NULL: there is no
        room, there never will be, or `flags` are not 0. Raises ObjectError for a negative length.
        """
        if length < 0:
            raise ObjectError(f"a record of {length} bytes")
        position = None if flags else self._reserve(length)
        return None if position is None else Reservation(self, position, length)

    def output(self, data: bytes | bytearray | memoryview, flags: int = 0) -> int:
        """bpf_ringbuf_output: reserve, copy and submit. 0, or -EINVAL for unknown flags, or -EAGAIN where `reserve`
        gives None. (-EBUSY is an answer of user ring buffers only.)
        """
        if flags & ~(NO_WAKEUP | FORCE_WAKEUP):
            return -EINVAL
        content = memoryview(data).cast("B")
        position = self._reserve(len(content))
        if position is None:
            return -EAGAIN
        self._write(position + HEADER, content)
        self._commit(position, 0, flags)
        return 0

    def query(self, flag: int) -> int:
        """bpf_ringbuf_query: 0 bytes reserved and not consumed, 1 size, 2 consumer position, 3 producer position, 4 overwrite
        position, which is 0 without overwrite mode.

        0 for any other flag. The numbers are unsigned 64-bit ones: a false consumer position makes 0 a large one.
        """
        consumer, producer, overwrite = self._consumer[0], self._producer[_PRODUCER], self._producer[_OVERWRITE]
        begin = max(consumer, overwrite) if self._overwrites else consumer
        answers = {0: (producer - begin) & POSITIONS, 1: self.size, 2: consumer, 3: producer, 4: overwrite}
        return answers.get(flag, 0)

    def _reserve(self, length: int) -> int | None:
        """The position of a new record, now busy."""
        need = stride(length)
        if length > LARGEST or need > self.size:
            return None
        position = self._producer[_PRODUCER]
        pending = self._producer[_PENDING] = self._oldest_busy()
        if not self._has_room(pending, position + need):
            return None
        if self._overwrites:
            self._producer[_OVERWRITE] = self._oldest_kept(position + need)
        elif not self._has_room(self._consumer[0], position + need):
            return None
        page = _PAGES_BEFORE_DATA + self._offset(position) // self.page_size
        self._put_header(position, 0, BUSY | length)
        self._put_header(position, 1, page)
        self._producer[_PRODUCER] = (position + need) & POSITIONS
        return position

    def _oldest_busy(self) -> int:
        """The position of the oldest record that is busy; the producer position if none is."""
        producer, pending = self._producer[_PRODUCER], self._producer[_PENDING]
        while 0 < (producer - pending) & POSITIONS <= self.size:
            word = self._headers[self._offset(pending) // 4]
            if word & BUSY:
                break
            pending = (pending + stride(word & LENGTH)) & POSITIONS
        return pending

    def _oldest_kept(self, end: int) -> int:
        """The overwrite position that leaves room for a record that ends there."""
        overwrite = self._producer[_OVERWRITE]
        while self.size - 1 < (end - overwrite) & POSITIONS < 2 * self.size:
            word = self._headers[self._offset(overwrite) // 4]
            overwrite = (overwrite + stride(word & LENGTH)) & POSITIONS
        return overwrite

    def _has_room(self, begin: int, end: int) -> bool:
        return (end - begin) & POSITIONS <= self.size - 1

    def _commit(self, position: int, discard: int, flags: int) -> bool:
        """Publish the record; `discard` is DISCARD or 0. Is the consumer woken?"""
        word = self._headers[self._offset(position) // 4]
        self._put_header(position, 0, word ^ BUSY | discard)
        is_next = self._offset(self._consumer[0]) == self._offset(position)
        woken = bool(flags & FORCE_WAKEUP) or (is_next and not flags & NO_WAKEUP)
        self.notifications += woken
        return woken

    def _offset(self, position: int) -> int:
        return position & self.size - 1

    def _put_header(self, position: int, number: int, word: int) -> None:
        """Word 0 or 1 of a header. It lies on a multiple of 8, and so never wraps."""
        at = self._offset(position) // 4 + number
        self._headers[at] = self._headers[self.size // 4 + at] = word

    def _read(self, position: int, length: int) -> bytearray:
        at = self._offset(position)
        return self.data[at : at + length]

    def _write(self, position: int, content: bytes | bytearray | memoryview) -> None:
        """Where it passes the end of the first half, it goes on at the ring's start: the kernel maps its pages twice."""
        at = self._offset(position)
        room = self.size - at
        for place, part in ((at, content[:room]), (0, content[room:])):
            for base in (place, self.size + place):
                self.data[base : base + len(part)] = part


class Reservation:
    """A place in the ring for `length` bytes at `position`, busy until it is submitted or discarded.

    A BPF program writes into the ring itself. Here `payload` is a copy of what the ring holds there, old bytes of other
    records, and is written back by the commit, before which nobody may look: so what still refers to it after that, a
    slice or an array, changes nothing that the consumer reads.
    """

    __slots__ = ("_payload", "_ring", "length", "position")

    def __init__(self, ring: SimulatedRing, position: int, length: int) -> None:
        self.position, self.length = position, length
        self._ring: SimulatedRing | None = ring
        self._payload = memoryview(ring._read(position + HEADER, length))

    @property
    def payload(self) -> memoryview:
        """Its bytes, to be written. Released by the commit; then this raises ClosedError."""
        self._busy()
        return self._payload

    def write(self, content: bytes, at: int = 0) -> None:
        """Store bytes from byte `at` of the payload on, into the ring itself and at once, as a program's stores are: the
        record is busy, but who looks all the same sees them. Raises ValueError if they do not fit in, and ClosedError.
        """
        self.payload[at : at + len(content)] = content
        self._busy()._write(self.position + HEADER + at, content)

    def submit(self, flags: int = 0) -> bool:
        """bpf_ringbuf_submit: have it consumed. Is the consumer woken? Raises ClosedError if it is committed already."""
        return self._commit(0, flags)

    def discard(self, flags: int = 0) -> bool:
        """bpf_ringbuf_discard: have it skipped. Is the consumer woken? Raises ClosedError if it is committed already."""
        return self._commit(DISCARD, flags)

    def _commit(self, discard: int, flags: int) -> bool:
        ring = self._busy()
        self._ring = None
        ring._write(self.position + HEADER, self._payload)
        with suppress(BufferError):  # an array refers to it, and keeps harmless memory
            self._payload.release()
        return ring._commit(self.position, discard, flags)

    def _busy(self) -> SimulatedRing:
        if self._ring is None:
            raise ClosedError(f"the record at position {self.position:#x} has been submitted or discarded")
        return self._ring


def _is_power_of_two(number: int) -> bool:
    return number > 0 and not number & (number - 1)
