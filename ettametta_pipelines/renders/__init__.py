"""The renders room: one source and one recipe become finished files in up to three formats, from one decode.

`recipe.py` says what to do, `formats.py` for which screens, `graph.py` writes it as a filter graph, `ffmpeg.py` runs
it, `quality.py` judges what came out by its probe and by playing it (`playback.py`), `engine.py` is the whole.
`thumbnails.py` picks title pictures. Judging sources is done next door in `media/`.
"""
