"""The render node: takes GPU jobs over HTTP, works them off one at a time per GPU, tells when they are done.

`jobs.py` is the ledger and the truth, `queue.py` the Celery side, `work.py` one job, `notices.py` the webhook,
`app.py` the HTTP side and `server.py` what `ettametta render-node` runs. The orderer's side is
`synthesis/node_client.py`.
"""
