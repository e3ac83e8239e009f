"""How a verdict is told: on the terminal, to a CI system as JUnit XML, and as one HTML file for people.

report.html     everything, for eyes
junit.xml       the checks, for CI
verdict.json    the verdict itself, as `Verdict.from_json` reads it
"""
