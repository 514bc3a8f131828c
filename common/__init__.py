"""What the five scripts share; nothing in here knows the scripts."""
