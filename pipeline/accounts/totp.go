package accounts

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
)

// The second factor is TOTP (RFC 6238) with what every program for it can do: SHA-1, six digits,
// 30 seconds.
const (
	totpPeriod    = 30
	totpSkew      = 1 // steps by which a clock may be wrong
	recoveryCodes = 10
	issuer        = "SealMQ"
)

// ErrWrongCode says that the password is right, and the code of the second factor is not.
var ErrWrongCode = &Error{Kind: ErrSecondFactor.Kind, Message: "The code is wrong, or it was used"}

// errCodeRefused is ErrWrongCode while the second factor is set up.
var errCodeRefused = invalid("code", "The code is wrong; check that the clock of the device is right")

// BeginSecondFactor makes a secret for the second factor of an account. The second factor is in
// force once a code has confirmed it. uri is for programs that scan it.
func (s *Service) BeginSecondFactor(ctx context.Context, user int64) (secret, uri string, err error) {
	_, err = s.cfg.Store.ChangeUser(ctx, user, func(u *User, _ int) error {
		if u.SecondFactor {
			return &Error{Kind: "conflict", Message: "The account has a second factor; remove it first"}
		}
		key, err := totp.Generate(totp.GenerateOpts{Issuer: issuer, AccountName: u.Email, Period: totpPeriod, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return err
		}
		secret, uri = key.Secret(), key.URL()
		u.TOTPSecret = secret
		return nil
	})
	return secret, uri, err
}

// ConfirmSecondFactor puts the second factor in force. It returns recovery codes, each of which
// stands in for a code once.
func (s *Service) ConfirmSecondFactor(ctx context.Context, l Login, code string, o Origin) (codes []string, err error) {
	t, err := s.beginTry(ctx, l.User.Email, o.Address)
	if err != nil {
		return nil, err
	}
	var hashes []string
	for range recoveryCodes {
		code := newRecoveryCode()
		codes, hashes = append(codes, code), append(hashes, hashSecret(plainCode(code)))
	}
	_, err = s.cfg.Store.ChangeUser(ctx, l.User.ID, func(u *User, _ int) error {
		if u.SecondFactor || u.TOTPSecret == "" {
			return &Error{Kind: "conflict", Message: "There is no second factor to confirm; begin with a secret"}
		}
		step, ok := s.step(u.TOTPSecret, code)
		if !ok {
			return errCodeRefused
		}
		u.SecondFactor, u.TOTPStep, u.NewRecoveryCodes = true, step, hashes
		return nil
	})
	if err != nil {
		if !errors.Is(err, errCodeRefused) {
			t.undo(ctx)
		}
		return nil, err
	}
	// The second factor is in force. The codes are shown once, so no error may hold them back: then
	// the try stays counted.
	_ = t.succeeded(ctx)
	return codes, nil
}

// RemoveSecondFactor removes the own second factor. It needs the password and a code.
func (s *Service) RemoveSecondFactor(ctx context.Context, l Login, password, code string, o Origin) error {
	if _, err := s.check(ctx, Credentials{l.User.Email, password, code}, o); err != nil {
		return err
	}
	_, err := s.cfg.Store.ChangeUser(ctx, l.User.ID, func(u *User, _ int) error {
		u.TOTPSecret, u.SecondFactor = "", false
		return nil
	})
	return err
}

// useCode uses a code of the second factor up, or a recovery code.
func (s *Service) useCode(ctx context.Context, u User, code string) error {
	code = plainCode(code)
	var err error
	if step, ok := s.step(u.TOTPSecret, code); ok {
		err = s.cfg.Store.UseTOTPStep(ctx, u.ID, step)
	} else {
		err = s.cfg.Store.UseRecoveryCode(ctx, u.ID, hashSecret(code))
	}
	if errors.Is(err, ErrNotFound) {
		return ErrWrongCode
	}
	return err
}

// step is the step whose code it is.
func (s *Service) step(secret, code string) (step int64, ok bool) {
	now := s.now().Unix() / totpPeriod
	if secret == "" || len(code) != 6 {
		return 0, false
	}
	for i := now - totpSkew; i <= now+totpSkew; i++ {
		want, err := totp.GenerateCodeCustom(secret, time.Unix(i*totpPeriod, 0), totp.ValidateOpts{Period: totpPeriod, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			return i, true
		}
	}
	return 0, false
}

// newRecoveryCode is a code of 80 random bits that a person can type.
func newRecoveryCode() string {
	var b [10]byte
	rand.Read(b[:]) // never fails
	c := strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
	return c[:4] + "-" + c[4:8] + "-" + c[8:12] + "-" + c[12:]
}

// plainCode is a code without what people put between its signs.
func plainCode(code string) string {
	return strings.ToLower(strings.NewReplacer("-", "", " ", "").Replace(code))
}
