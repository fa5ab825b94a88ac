package market

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/metering"
)

var publicKeyVerbs = []Verb{
	finds(adminapi.ListPublicKeys, PublicKeys),
	changes(adminapi.RotatePublicKey, RotatePublicKey),
	changes(adminapi.ExpirePublicKey, ExpirePublicKey),
}

const keyBits = 2048 // of the keys that sign RegisterUsage tokens

func (v *View) publicKeyShape(k *metering.PublicKey) adminapi.PublicKey {
	return adminapi.PublicKey{Version: k.Version, PEM: k.PEM, Expired: k.RotatedAt != 0 && k.RotatedAt <= v.Now,
		CreatedAt: timeOf(k.Created), RotatedAt: timeOf(k.RotatedAt)}
}

// addPublicKey adds a given version of a new product's key.
func (p *Plan) addPublicKey(product uint32, in *adminapi.PublicKey) *metering.Error {
	k, err := p.checkPublicKey(product, in)
	if err != nil {
		return err
	}
	if product == 0 {
		return errFollows
	}
	if k.Sealed == nil {
		return invalid("private_pem: is missing: give the RSA private key, or leave public_keys out to have one made")
	}
	return p.putPublicKey(k)
}

func (p *Plan) putPublicKey(k metering.PublicKey) *metering.Error {
	if last := p.version[k.Product]; k.Version <= last {
		return invalid("version: %d comes after %d: list each version once, in ascending order", k.Version, last)
	}
	p.version[k.Product] = k.Version
	p.publicKeys = append(p.publicKeys, k)
	return nil
}

// checkPublicKey checks a given version of a product's key, and seals its private half if there is one.
func (p *Plan) checkPublicKey(product uint32, in *adminapi.PublicKey) (k metering.PublicKey, err *metering.Error) {
	k = metering.PublicKey{Product: product, Version: in.Version, PEM: in.PEM}
	var badVersion, badCreated, badRotated, badKey *metering.Error
	if in.Version < 1 {
		badVersion = invalid("version: must be 1 or more, not %d", in.Version)
	}
	k.Created, badCreated = Instant("created_at", in.CreatedAt)
	k.RotatedAt, badRotated = Instant("rotated_at", in.RotatedAt)
	if k.Created == 0 {
		k.Created = p.Now
	}
	if in.Expired && k.RotatedAt == 0 {
		k.RotatedAt = p.Now
	}
	if in.Expired && k.RotatedAt > p.Now {
		badRotated = invalid("expired: is true, but rotated_at is %v, in the future: leave one of them out", k.RotatedAt)
	}
	if in.PrivatePEM != "" {
		k.PEM, k.Sealed, badKey = p.privateKey(product, in)
	}
	return k, p.flaws(badVersion, badCreated, badRotated, badKey)
}

// privateKey checks a given private key. It returns the public half and the sealed private key.
func (p *Plan) privateKey(product uint32, in *adminapi.PublicKey) (public string, sealed []byte, err *metering.Error) {
	block, _ := pem.Decode([]byte(in.PrivatePEM))
	if block == nil || block.Type != "PRIVATE KEY" {
		return "", nil, invalid("private_pem: is not a PKCS #8 private key in PEM: make one with: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:%d", keyBits)
	}
	parsed, bad := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*rsa.PrivateKey)
	if bad != nil || !ok || key.N.BitLen() < keyBits {
		return "", nil, invalid("private_pem: must be an RSA key of %d bits or more", keyBits)
	}
	if public, err = publicPEM(key); err != nil {
		return "", nil, err
	}
	if given, _ := pem.Decode([]byte(in.PEM)); in.PEM != "" && (given == nil || string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: given.Bytes})) != public) {
		return "", nil, invalid("pem: is not the public half of private_pem: leave it out")
	}
	return public, p.cfg.Sealer.Seal(keyLabel(product, in.Version), block.Bytes), nil
}

func publicPEM(key *rsa.PrivateKey) (string, *metering.Error) {
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return "", metering.Errorf(metering.Internal, "encoding a public key: %v", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

// makePublicKey makes a version of the product's key.
func (p *Plan) makePublicKey(product uint32, version int32) *metering.Error {
	key, err := rsa.GenerateKey(p.random, keyBits)
	if err != nil {
		return metering.Errorf(metering.Internal, "making a key: %v", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return metering.Errorf(metering.Internal, "encoding a private key: %v", err)
	}
	public, refusal := publicPEM(key)
	if refusal != nil {
		return refusal
	}
	return p.putPublicKey(metering.PublicKey{Product: product, Version: version, PEM: public, Sealed: p.cfg.Sealer.Seal(keyLabel(product, version), der), Created: p.Now})
}

// RotatePublicKey makes the next version of the product's key. The version that was current is marked as replaced
// now; it still signs for software that asks for it (metering-api 2.7).
func RotatePublicKey(of adminapi.ProductPath) Act[adminapi.PublicKey] {
	return func(p *Plan) (Find[adminapi.PublicKey], *metering.Error) {
		product, err := p.ownProduct(of.ProductCode)
		if err != nil {
			return nil, err
		}
		version := int32(0)
		for _, k := range p.State.PublicKeys(product.ID) {
			version = max(version, k.Version)
			if k.RotatedAt == 0 {
				k.RotatedAt = p.Now
				p.publicKeys = append(p.publicKeys, k)
			}
		}
		version++
		p.Summary = fmt.Sprintf("make public key version %d of product %s", version, of.ProductCode)
		return publicKey(of.ProductCode, version), p.makePublicKey(product.ID, version)
	}
}

// ExpirePublicKey marks a version of the product's key as replaced, without making another.
func ExpirePublicKey(of adminapi.PublicKeyPath) Act[adminapi.PublicKey] {
	return func(p *Plan) (Find[adminapi.PublicKey], *metering.Error) {
		p.Summary = fmt.Sprintf("expire public key version %d of product %s", of.Version, of.ProductCode)
		product, err := p.ownProduct(of.ProductCode)
		if err != nil {
			return nil, err
		}
		for _, k := range p.State.PublicKeys(product.ID) {
			if k.Version != of.Version {
				continue
			}
			if k.RotatedAt != 0 && k.RotatedAt <= p.Now {
				return nil, conflict("version: version %d of product %q has expired at %v already", of.Version, of.ProductCode, k.RotatedAt)
			}
			k.RotatedAt = p.Now
			p.publicKeys = append(p.publicKeys, k)
			return publicKey(of.ProductCode, of.Version), nil
		}
		return nil, noVersion(of.ProductCode, of.Version)
	}
}

func noVersion(code string, version int32) *metering.Error {
	return notFound("version: product %q has no public key version %d: meterd admin product keys %s shows the versions", code, version, code)
}

// publicKey returns a version of the product's key.
func publicKey(code string, version int32) Find[adminapi.PublicKey] {
	return func(v *View) (adminapi.PublicKey, *metering.Error) {
		keys, err := PublicKeys(adminapi.ProductPath{ProductCode: code})(v)
		if err != nil {
			return adminapi.PublicKey{}, err
		}
		i := slices.IndexFunc(keys.Items, func(k adminapi.PublicKey) bool { return k.Version == version })
		if i < 0 {
			return adminapi.PublicKey{}, noVersion(code, version)
		}
		return keys.Items[i], nil
	}
}

// PublicKeys returns all versions of the product's key.
func PublicKeys(of adminapi.ProductPath) Find[adminapi.Page[adminapi.PublicKey]] {
	return func(v *View) (adminapi.Page[adminapi.PublicKey], *metering.Error) {
		product, err := Product(of)(v)
		return adminapi.Page[adminapi.PublicKey]{Items: append([]adminapi.PublicKey{}, product.PublicKeys...)}, err
	}
}

func keyLabel(product uint32, version int32) string {
	return fmt.Sprintf("public key %d/%d", product, version)
}

// PrivateKey opens the private half of a public key.
func (s *State) PrivateKey(k *metering.PublicKey) (*rsa.PrivateKey, error) {
	der, err := s.cfg.Sealer.Open(keyLabel(k.Product, k.Version), k.Sealed)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("the product's key is not an RSA key")
	}
	return private, nil
}
