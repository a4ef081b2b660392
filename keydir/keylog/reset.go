package keylog

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// An owner whose certificate was stolen, or comes from a new authority, cannot replace the
// entry. So an administrator can take it out. This lets nobody be impersonated: the reset
// is in the log, the next entry's serial continues the last one's, and it names the
// reset. Nothing that was signed earlier can follow, and clients that have pinned the key
// report the reset.

// Reset takes the keys of a client out of the directory: the one of a suite, the bare one if
// suite is Unproven, or all if it is empty. Afterwards anybody with a certificate of the name,
// of any accepted authority, can put the next entry. done gets the places of the resets in
// the log. Code NoKey if there is nothing.
func (l *Log) Reset(by sealmq.Identity, client, suite string, done func(indexes []int64, err error)) {
	client, suite = strings.Clone(client), strings.Clone(suite)
	if err := l.checkSlot(by, ResetKey, client, suite); err != nil {
		done(nil, err)
		return
	}
	answer := func(indexes []int64, err error) {
		l.cfg.Changed(by, ResetKey, client, err)
		done(indexes, err)
	}
	l.order.Lock()
	defer l.order.Unlock()
	changes, err := l.resettable(client, suite)
	if err != nil {
		answer(nil, err)
		return
	}
	var removed []Definition
	for _, c := range changes {
		removed = append(removed, Definition{Key: definitionKey(c.at)})
	}
	l.store(changes, removed, func(err error) {
		if err != nil {
			answer(nil, err)
			return
		}
		var indexes []int64
		for _, c := range changes {
			indexes = append(indexes, c.next.index)
		}
		l.cfg.Log.Warn("keys reset", "client", client, "suite", suite, "by", by.ID, "records", indexes)
		answer(indexes, nil)
	})
}

// checkSlot reports whether a client's keys of a suite can be asked for, and the caller may.
func (l *Log) checkSlot(by sealmq.Identity, act Action, client, suite string) error {
	if err := l.allow(by, act, client); err != nil {
		return err
	}
	if l.cfg.Signer == nil {
		return errNoDirectory
	}
	if suite != "" && suite != Unproven && !slices.Contains(seal.Suites(ciphermq.Suites{}), seal.Suite(suite)) {
		return &sealmq.Error{Code: sealmq.BadArgument, Message: "there is no suite of that name"}
	}
	return nil
}

// resettable returns the changes that reset what there is.
func (l *Log) resettable(client, suite string) (changes []*change, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, of := range append(seal.Suites(ciphermq.Suites{}), "") { // bare keys have none
		at := slot{client, string(of)}
		s := l.slots[at]
		switch {
		case s == nil, suite != "" && suite != cmp.Or(at.suite, Unproven):
		case s.busy > 0:
			return nil, errBusy(client)
		case s.current != nil && s.current.index != unlogged:
			leaf := s.current.leaf
			leaf.Reset, leaf.Issuer = true, ""
			changes = append(changes, &change{at: at, next: &record{leaf: leaf}})
		}
	}
	switch {
	case len(changes) == 0:
		return nil, errNoKey(client, suite)
	case l.records()+len(changes) > l.cfg.Limits.Records:
		return nil, errLimit("changes of keys", l.cfg.Limits.Records)
	}
	return changes, nil
}
