package credential

import "time"

// SetNow changes the clock of records.
func (s *Grants) SetNow(now func() time.Time) { s.now = now }
