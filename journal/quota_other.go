//go:build !unix

package journal

import "errors"

// errQuota matches nothing where the system has no such error.
var errQuota = errors.New("disk quota exceeded")
