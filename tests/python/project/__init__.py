"""What holds for the project as a whole: its API, its rooms, its pages and its tools."""
