"""What makes a script a good command: settings, files, signals, progress."""
