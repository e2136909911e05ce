"""Findings, choices and progress in the terminal."""
