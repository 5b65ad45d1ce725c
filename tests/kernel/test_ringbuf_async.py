"""The reader of a ring on asyncio's loop."""

from __future__ import annotations

import asyncio

import pytest
from ring_sender import Sender, numbers

import purebpf

pytestmark = pytest.mark.kernel


class TestAsync:
    """On asyncio's loop."""

    def test_records_come_as_they_are_sent(self, sender: Sender) -> None:
        async def take(wanted: int) -> list[int]:
            seen: list[int] = []
            async for record in sender.ring:
                seen += numbers([record])
                if len(seen) == wanted:
                    break
            return seen

        async def both() -> list[int]:
            task = asyncio.create_task(take(30))
            for _ in range(30):
                await asyncio.sleep(0.002)
                sender.send(1)
            return await asyncio.wait_for(task, 10)

        assert asyncio.run(both()) == list(range(30))
        sender.send(5)
        assert asyncio.run(take(5)) == list(range(30, 35))

    def test_a_break_loses_nothing(self, sender: Sender) -> None:
        async def first() -> int:
            async for record in sender.ring:
                return numbers([record])[0]
            return -1

        sender.send(10)
        assert asyncio.run(first()) == 0
        assert numbers(sender.ring.consume()) == list(range(1, 10))

    def test_several_tasks_share_the_records(self, sender: Sender) -> None:
        seen: list[int] = []

        async def take() -> None:
            async for record in sender.ring:
                seen.extend(numbers([record]))

        async def all_of_them() -> None:
            first, second = asyncio.create_task(take()), asyncio.create_task(take())
            await asyncio.sleep(0.05)
            sender.send(10)
            await asyncio.sleep(0.05)
            second.cancel()
            await asyncio.sleep(0.05)
            sender.send(10)
            await asyncio.sleep(0.05)
            third = asyncio.create_task(take())
            await asyncio.sleep(0.05)
            sender.ring.close()
            ended = await asyncio.wait_for(asyncio.gather(first, second, third, return_exceptions=True), 10)
            assert [type(e) for e in ended] == [purebpf.ClosedError, asyncio.CancelledError, purebpf.ClosedError]

        asyncio.run(all_of_them())
        assert sorted(seen) == list(range(20))

    def test_another_read_takes_what_a_suspended_loop_has_not(self, sender: Sender) -> None:
        async def both() -> list[int]:
            seen: list[int] = []
            async for record in sender.ring:
                seen += numbers([record])
                seen += numbers(sender.ring.consume(2))
                if len(seen) >= 9:
                    break
            return seen

        sender.send(9)
        assert asyncio.run(both()) == list(range(9))

    def test_cancelling_and_closing_end_it(self, sender: Sender) -> None:
        async def take() -> None:
            async for _record in sender.ring:
                pass

        async def cancelled() -> None:
            await asyncio.wait_for(take(), 0.05)

        async def closed() -> None:
            asyncio.get_running_loop().call_later(0.05, sender.ring.close)
            await asyncio.wait_for(take(), 10)

        with pytest.raises(asyncio.TimeoutError):
            asyncio.run(cancelled())
        with pytest.raises(purebpf.ClosedError):
            asyncio.run(closed())

    def test_other_tasks_get_their_turn_while_records_keep_coming(self, sender: Sender) -> None:
        async def take(stop: asyncio.Event) -> int:
            count = 0
            async for _record in sender.ring:
                count += 1
                if count % 20 == 0:
                    sender.send(20)  # there is always more
                if stop.is_set():
                    break
            return count

        async def both() -> int:
            stop = asyncio.Event()
            asyncio.get_running_loop().call_later(0.1, stop.set)
            return await asyncio.wait_for(take(stop), 20)

        sender.send(40)
        assert asyncio.run(both()) > 40
