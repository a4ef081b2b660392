package ca

// Init is Setup for the authority alone.
func Init(dir string, o Options) (*Authority, error) {
	o = o.normalize()
	unlock, err := lockFolder(dir, o)
	if err != nil {
		return nil, err
	}
	defer unlock()
	a, _, err := complete(dir, o)
	return a, err
}
