"""TSan sees a race, and sees none in the library; `make sanitize-threads` runs this."""

from programs import assert_sanitized_library_is_loaded, run

TOGETHER = """
import sys, threading
def together(count, work):
  barrier = threading.Barrier(count)
  def start(i):
    barrier.wait()
    work(i)
  threads = [threading.Thread(target=start, args=(i,)) for i in range(count)]
  for thread in threads: thread.start()
  for thread in threads: thread.join()
"""

# Threads are switched as often as can be. Each has modules of its own; the caches, the
# table of Flax's objects and the table of usage are everybody's.
USE = """
sys.setswitchinterval(1e-6)
import jax, jax.numpy as jnp
from flax import linen as nn, nnx
import nnx_wrappers as bridge

X = jnp.ones((2, 3))

class Both(nnx.Module):
  def __init__(self, *, rngs):
    self.linear = nnx.Linear(3, 4, rngs=rngs)
    self.norm = bridge.ToNNX(nn.BatchNorm(use_running_average=False), rngs=rngs)

  def __call__(self, x):
    return self.norm(self.linear(x))

def work(i):
  for step in range(4):
    for cls in (Both, lambda rngs: nnx.Linear(3, 4, rngs=rngs)):
      model = bridge.to_linen(cls)
      variables = model.init(jax.random.key(i), X)
      model.apply(variables, X, mutable=['batch_stats'])
      attributes = bridge.linen_vars_to_nnx_attrs(variables)
      bridge.nnx_attrs_to_linen_vars(attributes)
    wrapped = bridge.lazy_init(bridge.ToNNX(nn.Dense(4), rngs=nnx.Rngs(i)), X)
    wrapped(X)
    bridge.cache_info(), bridge.usage()
    if step == i % 4: bridge.clear_caches()

bridge.record_usage(True)
together(8, work)
print('done')
"""


def test_a_race_ends_the_process_with_a_report() -> None:
    done = run(TOGETHER + "import _faults; together(2, lambda _: _faults.race())")
    assert "ThreadSanitizer: data race" in done.stderr
    assert done.returncode != 0


def test_the_library_that_is_tested_has_the_sanitizer() -> None:
    assert_sanitized_library_is_loaded(b"__tsan_read8", b"__tsan_func_entry")


def test_eight_threads_of_a_program_do_not_race() -> None:
    done = run(TOGETHER + USE)
    assert done.stderr == ""
    assert (done.stdout, done.returncode) == ("done\n", 0)
