"""How a run looks: a live picture on a terminal, plain lines, or JSON.

A view keeps no record of the run; it is handed what changed and draws it.  Finished tasks stay on the screen as lines,
what was reused is counted and not listed.  Events and errors come clean; what doit itself has to say is cleaned here.
"""
