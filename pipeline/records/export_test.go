package records

// SetExamined changes how many rows a page looks at.
func (s *Store) SetExamined(n int) { s.examine = n }
