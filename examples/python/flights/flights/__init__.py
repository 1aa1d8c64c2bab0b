"""The flights of 2013 as commands, events and a board."""
