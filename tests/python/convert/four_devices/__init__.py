"""Sharding under a mesh of four devices, against Flax's bridge.

JAX fixes the number of devices when it starts, so `test_sharding.py` runs these tests in a
process of their own. To run some of them by hand:

    export XLA_FLAGS=--xla_force_host_platform_device_count=4
    pytest tests/python/convert/four_devices/*_cases.py
"""
