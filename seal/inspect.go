package seal

import (
	"fmt"
	"time"
)

// Info is what an envelope says of itself to everybody. None of it was checked: it is what
// its maker wrote, or what somebody made of it.
type Info struct {
	// Suites are what it can be of; more than one where legacy formats look alike.
	Suites     []Suite
	ID         string
	Sender     string
	Receivers  []string
	Exchange   string
	RoutingKey string
	SealedAt   time.Time
	Sequence   uint64
	// Keys are the beginnings of the fingerprints of the keys that it was sealed for,
	// as many as Receivers.
	Keys []string
}

// Inspect reads an envelope without a key. The error, which wraps ErrMalformed, ErrVersion
// or ErrSuite, says that it is not well formed; that there is none says nothing about
// whether it opens.
func Inspect(body []byte, legacy ...Legacy) (*Info, error) {
	p, err := split(body)
	if err == errNoSuite {
		return inspectLegacy(body, legacy)
	}
	if err != nil {
		return nil, err
	}
	_, h, _, err := p.header()
	if err != nil {
		return nil, err
	}
	if string(p.suite) != string(h.kem.suite) {
		return nil, errOtherSuite(h.kem.suite)
	}
	sealed, err := decode(nil, "sealed", p.sealed)
	if err != nil {
		return nil, err
	}
	m, err := parseMessage(p.id, sealed)
	if err == nil {
		err = m.check()
	}
	if err != nil {
		return nil, err
	}
	info := &Info{Suites: []Suite{h.kem.suite}, ID: string(m.id), Sender: h.sender, Exchange: string(m.exchange),
		RoutingKey: string(m.routingKey), SealedAt: time.UnixMilli(m.sealedAt), Sequence: m.seq}
	for _, s := range h.slots {
		info.Receivers = append(info.Receivers, s.name)
		info.Keys = append(info.Keys, fmt.Sprintf("sha256:%x", s.key))
	}
	return info, nil
}

func errOtherSuite(s Suite) error {
	return malformed("the suite is %s, and the envelope says it is another", s)
}
