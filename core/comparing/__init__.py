"""The paper's benchmark, for models of ours and for results of any editor.

    test rows -> results, made or found -> matched to the plate -> figures and looking copies -> table, report

rows.py       the test set's rows
methods.py    where a method's results come from: a model, rendered clip by clip, or a folder of videos
clips.py      plate and result of one row as frames that belong together: sizes, rates, lengths
figures.py    one clip's figures, each frame decoded once, and its copies to look at
table.py      means, beside the published rows of published.json
report.py     one folder for a browser: page/ and the data
"""
