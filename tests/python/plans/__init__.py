"""Construction plans: when one is made, what it depends on, and when it is used."""
