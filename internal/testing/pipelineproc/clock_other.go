//go:build !linux || !amd64

package pipelineproc

import (
	"errors"
	"time"
)

// MoveClock works on Linux with amd64 only.
func (p *Pipeline) MoveClock(string, time.Duration, time.Duration) error {
	return errors.ErrUnsupported
}
