"""Load on a gateway as it is deployed (`make load`, `make soak`), and the model of growth behind docs/scale.md.

`driver.py` sends, `scenario.py` says what and checks what is left of it, `surroundings.py` starts the servers,
`__main__.py` runs the stages. `scale.py` needs none of them.
"""
