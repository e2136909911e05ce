"""Shows results, choices and progress in the terminal."""
