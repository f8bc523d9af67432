"""Wrong input, hostile code, failures, threads and limits break nothing and leave nothing."""
