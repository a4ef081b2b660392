package client

// Pins remembers keys that were seen, and the directories' logs. It is safe for
// concurrent use.
type Pins struct{}
