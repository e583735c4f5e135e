"""The paper's benchmark, for models of Vera and for results of any other editor.

    test rows -> results, rendered or found -> frames matched to the plate -> figures, preview movies -> table, report

rows.py       rows of the test set
methods.py    sources of results: a model that renders each clip, or a folder of videos
clips.py      matching frames of plate and result: sizes, frame rates, lengths
figures.py    the figures of one clip, with each frame decoded once, and its preview movies
table.py      means, beside the published rows of published.json
report.py     a folder that a browser opens: page/ and the data
"""
