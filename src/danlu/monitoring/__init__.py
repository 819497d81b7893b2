"""From a journal to what a person should know: numbers, drift, alarms, and which of two models is better."""
