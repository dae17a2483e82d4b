"""The media room: every clip, bought, made or uploaded, enters here and is judged once.

`inbox.py` finds and places uploads, `intake.py` accepts or rejects one, `probe.py` judges the file itself,
`analysis.py` looks at accepted footage. Rendering lives next door in `renders/`.
"""
