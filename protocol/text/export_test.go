package text

// VerbRow is a row of the table of verbs.
type VerbRow struct {
	Word, Args string
	AdminOnly  bool
	OwnerOnly  bool
	Least      int
	Missing    string
}

// Table is the table of verbs.
func Table() (list []VerbRow) {
	for _, v := range Verbs() {
		r := table[v]
		list = append(list, VerbRow{r.word, r.args, r.flags&adminOnly != 0, r.flags&ownerOnly != 0, r.least, r.missing})
	}
	return list
}
