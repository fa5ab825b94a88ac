package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"strings"
	"sync"
)

// maxKeys bounds keyCache, to about 2 MB.
const maxKeys = 4096

// keyScope is what a signing key depends on besides the secret.
type keyScope struct {
	accessKeyID, day, region, service string
}

// keyCache holds signing keys, which cost more to derive than the rest of a
// small request's check. The zero value is ready.
type keyCache struct {
	mu   sync.RWMutex // guards keys
	keys map[keyScope]*signingKey
}

// get returns the signing key for secret, which the caller has just looked up:
// a deleted access key never gets here, and a changed secret derives anew.
func (c *keyCache) get(scope keyScope, secret string) *signingKey {
	c.mu.RLock()
	key := c.keys[scope]
	c.mu.RUnlock()
	if key != nil && subtle.ConstantTimeCompare([]byte(key.secret), []byte(secret)) == 1 {
		return key
	}
	key = deriveKey(secret, scope.day, scope.region, scope.service)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil {
		c.keys = make(map[keyScope]*signingKey)
	}
	if _, ok := c.keys[scope]; !ok && len(c.keys) >= maxKeys {
		for other := range c.keys { // any one will do; yesterday's go in time
			delete(c.keys, other)
			break
		}
	}
	// The strings share the request's header; don't keep all of that alive.
	scope = keyScope{strings.Clone(scope.accessKeyID), strings.Clone(scope.day), strings.Clone(scope.region), strings.Clone(scope.service)}
	c.keys[scope] = key
	return key
}

// signingKey is a derived key, spread to the two blocks HMAC-SHA-256 starts
// with, so that signing allocates nothing (crypto/hmac allocates every time).
type signingKey struct {
	secret       string
	inner, outer [sha256.BlockSize]byte
}

func deriveKey(secret, day, region, service string) *signingKey {
	key := []byte("AWS4" + secret)
	for _, part := range [...]string{day, region, service, terminator} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return newSigningKey(secret, key)
}

// newSigningKey takes a key of at most one block.
func newSigningKey(secret string, key []byte) *signingKey {
	k := &signingKey{secret: strings.Clone(secret)}
	copy(k.inner[:], key)
	copy(k.outer[:], key)
	for i := range k.inner { // RFC 2104's ipad and opad
		k.inner[i] ^= 0x36
		k.outer[i] ^= 0x5c
	}
	return k
}

// sign returns the HMAC-SHA-256 of the string to sign.
func (k *signingKey) sign(text []byte) [sha256.Size]byte {
	var buf [512]byte
	sum := sha256.Sum256(append(append(buf[:0], k.inner[:]...), text...))
	return sha256.Sum256(append(append(buf[:0], k.outer[:]...), sum[:]...))
}
