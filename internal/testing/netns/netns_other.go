//go:build !linux

package netns

import (
	"context"
	"errors"
	"net"
)

// Network is for Linux.
type Network struct{}

// Host is for Linux.
type Host struct{ Name, IP string }

// New is for Linux.
func New() (*Network, error) { return nil, errors.ErrUnsupported }

// Host is for Linux.
func (*Network) Host(string) (*Host, error) { return nil, errors.ErrUnsupported }

// Cut is for Linux.
func (*Network) Cut(_, _ *Host) error { return errors.ErrUnsupported }

// Mend is for Linux.
func (*Network) Mend(_, _ *Host) error { return errors.ErrUnsupported }

// Close is for Linux.
func (*Network) Close() {}

// Addr is for Linux.
func (*Host) Addr(string) string { return "" }

// Program is for Linux.
func (*Host) Program(_, _ string) (string, error) { return "", errors.ErrUnsupported }

// Dial is for Linux.
func (*Host) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

// Listen is for Linux.
func (*Host) Listen(string) (net.Listener, error) { return nil, errors.ErrUnsupported }
