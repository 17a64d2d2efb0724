"""What tools/bench makes of a run of sluice-bench.

  rows.py      figures of rows, which rows may be compared, printing of numbers
  judge.py     goals met or short of, wins and losses
  plain_loops.py  each path beside the plain loop of as many copies: the rule of 5 %
  pictures.py  which pictures, from which rows
  gnuplot.py   how a picture is drawn, as SVG and PNG
  page.py      README.md with all of it
  method.py    how each case was measured, for the page
  merge.py     several files of one case each, as one result
  compare.py   two runs, before and after
"""


