"""Briefs become clips: engines behind one seam, money asked before it is spent, GPU work that cannot hang or leak."""
