package nodeset

import "math"

// circle lists the points of system:topo:circle in OMF's order (omf-legacy
// c.3): radius 8 around 10,10, the four points of each quarter for every step
// in x.
func circle() [][2]int {
	const radius, cx, cy = 8, 10, 10
	points := [][2]int{{cx, cy + radius}, {cx, cy - radius}}
	for dx := 1; dx <= radius; dx++ {
		dy := int(math.Round(math.Sqrt(float64(radius*radius - dx*dx))))
		points = append(points,
			[2]int{cx + dx, cy + dy}, [2]int{cx + dx, cy - dy},
			[2]int{cx - dx, cy + dy}, [2]int{cx - dx, cy - dy})
	}
	return points
}
