import os
import signal
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.training import checkpoints, fit, segments

# A member is a number that walks: each epoch adds its own step, and noise from its key.
RATES = jnp.array([0.1, 1.0, 10.0])


def advance(state, rate, noise):
    def epoch(state, _):
        key = jax.random.fold_in(state.key, state.epoch)
        params = state.params + rate + noise * jax.random.normal(key)
        return fit.State(params, state.optimiser, state.key, state.epoch + 1), params

    state, values = jax.lax.scan(epoch, state, length=2)
    return state, fit.Info(values)


def start(members=3):
    keys = jax.random.split(jax.random.key(1), members)
    return fit.State(jnp.zeros(members), (), keys, jnp.zeros(members, jnp.int32))


def run(directory=None, count=4, configuration=None, states=None):
    return segments.run(
        advance,
        start() if states is None else states,
        jnp.array(0.5),
        own=RATES,
        segments=count,
        directory=directory,
        configuration=configuration,
    )


def assert_same(found, expected):
    np.testing.assert_array_equal(found.states.params, expected.states.params)
    np.testing.assert_array_equal(found.states.epoch, expected.states.epoch)
    np.testing.assert_array_equal(*(jax.random.key_data(r.states.key) for r in (found, expected)))
    np.testing.assert_array_equal(found.info.loss, expected.info.loss)


def test_segments_are_one_run_and_their_info_grows():
    walked = list(run())
    assert [segment.done for segment in walked] == [1, 2, 3, 4]
    assert [segment.info.loss.shape for segment in walked] == [(3, 2), (3, 4), (3, 6), (3, 8)]
    np.testing.assert_array_equal(walked[-1].info.loss[:, -1], walked[-1].states.params)
    np.testing.assert_array_equal(walked[0].info.loss[:, -1], walked[0].states.params)
    steps = np.diff(walked[-1].info.loss, axis=1)  # the rate and noise of 0.5
    assert (np.abs(steps - np.asarray(RATES)[:, None]) < 2.5).all()
    assert walked[-1].remaining == 0
    assert walked[0].remaining > walked[2].remaining > 0


def test_a_run_that_was_left_goes_on_to_the_same_end(tmp_path):
    *_, whole = run()
    for segment in run(tmp_path):
        if segment.done == 2:
            break
    continued = list(run(tmp_path))
    assert [segment.done for segment in continued] == [3, 4]
    assert_same(continued[-1], whole)
    (complete,) = run(tmp_path)  # nothing is left to do
    assert_same(complete, whole)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_end(tmp_path):
    """By SIGKILL, between two saves or within one, in a process of its own."""
    script = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import test_segments
        for segment in test_segments.run({str(tmp_path)!r}, count=200):
            print(segment.done, flush=True)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 3:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    continued = list(run(tmp_path, count=200))
    assert 4 <= continued[0].done < 200
    *_, whole = run(count=200)
    assert_same(continued[-1], whole)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"configuration": {"width": 65}}, "configuration: width was 64, now 65"),
        ({"count": 5}, "configuration: segments was 4, now 5"),
        (
            {"states": start()._replace(epoch=jnp.zeros(3, int))},
            r"epoch was int32\[3\], now int64",
        ),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(changed, words, tmp_path):
    same = {"configuration": {"width": 64}, "count": 4}
    next(run(tmp_path, **same))
    with pytest.raises(ValueError, match=words):
        next(run(tmp_path, **{**same, **changed}))


@pytest.mark.slow
def test_a_half_written_checkpoint_is_passed_over(tmp_path):
    """What a save that was killed leaves behind: orbax renames a folder when it is complete."""
    walked = [segment.done for segment in run(tmp_path, count=2)]
    assert walked == [1, 2]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["1", "2", checkpoints.CONFIGURATION]
    (tmp_path / "2").rename(tmp_path / "2.orbax-checkpoint-tmp-0")
    assert [segment.done for segment in run(tmp_path, count=2)] == [2]


def test_bad_input():
    with pytest.raises(ValueError, match="segments: got 0"):
        next(run(count=0))
    with pytest.raises(ValueError, match="own: it is of 3 members, the states of 2"):
        next(run(states=start(2)))
    with pytest.raises(TypeError, match="JSON"):
        next(run("unused", configuration={"activation": jax.nn.relu}))
