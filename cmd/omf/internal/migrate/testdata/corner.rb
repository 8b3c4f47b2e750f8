# Topology name: corner
defTopology('corner', [[1,1],[2,1..2],[3,1]])
