package send

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/seal"
)

const (
	// storeTimeout bounds the wait until the broker has stored the sender's certificates.
	storeTimeout = 10 * time.Second
	// lookUpTimeout bounds the wait for a Directory whose keys are known already.
	lookUpTimeout = 10 * time.Second
	// lookUpPause is the time until a Directory that did not answer is asked again.
	lookUpPause = time.Minute
)

// prepare finds the keys and makes the Sealer.
func (s *Sender) prepare(ctx context.Context) error {
	receivers, err := s.lookUp(ctx)
	if err != nil {
		return err
	}
	s.sealer, err = seal.NewSealer(seal.SealerConfig{Receivers: receivers, Signer: s.cfg.Signer, EpochMessages: s.cfg.EpochMessages,
		EpochAge: s.cfg.EpochAge, OmitChain: s.omitChain, Extensions: s.extensions, Now: s.cfg.Now})
	return err
}

// omitChain leaves the certificates with the broker.
func (s *Sender) omitChain(signer *seal.Signer) bool {
	if s.cfg.CarryChain {
		return false
	}
	ctx, cancel := s.whileConnected(s.life, storeTimeout)
	defer cancel()
	return s.chains.Store(ctx, signer)
}

func (s *Sender) extensions() []seal.Extension {
	if s.cfg.Directory == nil {
		return nil
	}
	if checkpoint := s.cfg.Directory.Checkpoint(); len(checkpoint) > 0 {
		return []seal.Extension{{Type: seal.ExtCheckpoint, Value: checkpoint}}
	}
	return nil
}

// lookUp finds the key of every receiver.
func (s *Sender) lookUp(ctx context.Context) ([]seal.Receiver, error) {
	list := make([]seal.Receiver, 0, len(s.cfg.To))
	suite := s.cfg.Suite
	for _, name := range s.cfg.To {
		key, err := s.findKey(ctx, name, suite)
		if err != nil {
			return nil, err
		}
		suite = key.Suite()
		list = append(list, seal.Receiver{Name: name, Key: key})
	}
	s.lookedUp = s.cfg.Now()
	return list, nil
}

func (s *Sender) findKey(ctx context.Context, name string, suite seal.Suite) (*seal.PublicKey, error) {
	if key := s.cfg.Keys[name]; key != nil {
		if suite == "" || suite == key.Suite() {
			return key, nil
		}
		other, err := key.WithSuite(suite)
		if err != nil {
			return nil, fmt.Errorf("key of %s: %w", name, err)
		}
		return other, nil
	}
	if s.cfg.Directory == nil {
		return nil, fmt.Errorf("there is no key of %s, and no directory to look it up", name)
	}
	return s.cfg.Directory.Find(ctx, name, suite)
}

// renew looks up the keys again when they are as old as an epoch may get. While the directory
// cannot be asked, the known keys stay in use for KeysFor.
func (s *Sender) renew(ctx context.Context) error {
	if s.cfg.Directory == nil {
		return nil
	}
	s.keys.Lock()
	defer s.keys.Unlock()
	now := s.cfg.Now()
	age := -clock.Until(s.lookedUp, now)
	if age < s.cfg.EpochAge {
		return nil
	}
	look, cancel, known := ctx, func() {}, age <= s.cfg.KeysFor
	if known {
		if now.Before(s.askAt) {
			return nil
		}
		look, cancel = s.whileConnected(ctx, lookUpTimeout)
	}
	defer cancel()
	receivers, err := s.lookUp(look)
	switch {
	case err == nil:
		return s.sealer.SetReceivers(receivers)
	case known && ctx.Err() == nil && (look.Err() != nil || errors.Is(err, client.ErrInterrupted)):
		if errors.Is(look.Err(), context.DeadlineExceeded) {
			s.askAt = now.Add(lookUpPause)
		}
		return nil
	}
	return err
}

// whileConnected returns a context that ends after d, or when the connection is lost.
func (s *Sender) whileConnected(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithTimeout(ctx, d)
	ctx, cancel := s.c.WhileConnected(ctx)
	return ctx, func() { cancel(); stop() }
}
