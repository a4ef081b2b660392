package httpkit

import "time"

// SetDrainTimeout sets how long an error waits for the body of its request, and returns how long
// it was.
func SetDrainTimeout(d time.Duration) (before time.Duration) {
	before, drainTimeout = drainTimeout, d
	return before
}
