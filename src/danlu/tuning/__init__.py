"""The search for better settings: many trainings, one study."""
