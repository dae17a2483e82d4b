"""Commands that are more than one call: the demo, the development server, the doctor, the trace."""
