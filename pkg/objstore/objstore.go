// Package objstore keeps immutable objects under keys: in a directory, or in an S3 bucket.
//
// An object is written whole or not at all and never changes: PutIfAbsent is the only way to write, and of
// several writers of one key exactly one wins. That is what a reader, and the exactly-once protocol of the lake,
// may rely on. Both stores pass the same conformance tests; Probe shows at start-up that a store keeps the promise.
package objstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"time"
)

// Errors are classified once, here. Test with errors.Is.
var (
	// ErrExists: the key already holds an object; nothing was written.
	ErrExists = errors.New("object exists")
	// ErrNotFound: the key holds no object.
	ErrNotFound = errors.New("object not found")
	// ErrConflict: another write of the same key was under way; nothing is known of its end. Try again.
	ErrConflict = errors.New("conflicting write under way")
	// ErrInvalidKey: the key (or metadata) can never be stored. A retry does not help.
	ErrInvalidKey = errors.New("invalid object key")
	// ErrUnconditional: the store overwrites although it was told not to. Nothing may be kept in it.
	ErrUnconditional = errors.New("store ignores If-None-Match: it would overwrite")
)

// Info describes an object.
type Info struct {
	Key      string
	Size     int64
	Modified time.Time
	// Metadata as given to PutIfAbsent. Nil in what List yields.
	Metadata map[string]string
}

// Bucket holds objects. All methods are safe for concurrent use, also by several processes.
// An error that is none of the package's own means that the store could not be asked: Reason classifies it.
type Bucket interface {
	// PutIfAbsent stores data and metadata under key, durably, unless the key already holds an object (ErrExists).
	// On any other error than ErrExists and ErrInvalidKey the object may or may not be there.
	// Metadata keys are lower case [a-z0-9-]; both keys and values are printable ASCII, 2 KiB together.
	PutIfAbsent(ctx context.Context, key string, data []byte, metadata map[string]string) error
	// Get reads the whole object. An object larger than limit bytes is an error; limit <= 0 means no limit.
	Get(ctx context.Context, key string, limit int64) ([]byte, Info, error)
	// GetRange reads the bytes [off, off+length) of the object. That it has fewer is an error.
	GetRange(ctx context.Context, key string, off, length int64) ([]byte, error)
	// Head is what is known of the object without its data.
	Head(ctx context.Context, key string) (Info, error)
	// List yields all objects whose keys begin with prefix, in the order of their keys; metadata is left out.
	// It ends after the first error. Memory is bounded by one folder's (or one page's) names.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
	// Delete removes the object; a missing one is no error.
	Delete(ctx context.Context, key string) error
	// Close releases what the bucket holds. Idempotent.
	Close() error
}

// Config says where objects are kept.
type Config struct {
	URL       string        `mapstructure:"url" doc:"file:///absolute/dir, file://relative/dir or s3://bucket/prefix."`
	Endpoint  string        `mapstructure:"endpoint" doc:"Base URL of an S3 server that is not AWS, e.g. http://127.0.0.1:7070; empty: AWS."`
	Region    string        `mapstructure:"region" doc:"S3 region."`
	AccessKey string        `mapstructure:"access_key" doc:"S3 access key id; empty: the AWS SDK's own chain (environment, shared files, web identity, instance role)." secret:"true"`
	SecretKey string        `mapstructure:"secret_key" doc:"S3 secret access key." secret:"true"`
	PathStyle bool          `mapstructure:"path_style" doc:"Put the bucket's name into the path instead of the host name, as most S3 servers other than AWS need."`
	Timeout   time.Duration `mapstructure:"timeout" doc:"Longest that one request to the store may take."`
}

// DefaultConfig keeps objects in dir.
func DefaultConfig(dir string) Config {
	return Config{URL: "file://" + dir, Region: "us-east-1", PathStyle: true, Timeout: 60 * time.Second}
}

const (
	schemeFile = "file://"
	schemeS3   = "s3://"
)

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	switch {
	case strings.HasPrefix(c.URL, schemeFile):
		if strings.TrimPrefix(c.URL, schemeFile) == "" {
			return errors.New("url: file:// names no directory")
		}
	case strings.HasPrefix(c.URL, schemeS3):
		bucket, prefix := c.s3Location()
		if bucket == "" {
			return errors.New("url: s3:// names no bucket")
		}
		if prefix != "" {
			if err := ValidateKey(prefix); err != nil {
				return fmt.Errorf("url: prefix: %w", err)
			}
		}
		if c.Region == "" {
			return errors.New("region: must not be empty for s3")
		}
		if (c.AccessKey == "") != (c.SecretKey == "") {
			return errors.New("access_key and secret_key: give both or neither")
		}
	default:
		return fmt.Errorf("url: %q begins with neither %s nor %s", c.URL, schemeFile, schemeS3)
	}
	if c.Timeout <= 0 {
		return errors.New("timeout: must be positive")
	}
	return nil
}

// Address is how other programs call the object at key: a path without scheme in a directory, s3://bucket/prefix/key in S3.
func (c Config) Address(key string) (string, error) {
	dir, ok := strings.CutPrefix(c.URL, schemeFile)
	if !ok {
		return strings.TrimRight(c.URL, "/") + "/" + key, nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("lake directory: %w", err)
	}
	return filepath.Join(abs, filepath.FromSlash(key)), nil
}

// s3Location splits s3://bucket/prefix; the prefix has no slash at either end.
func (c Config) s3Location() (bucket, prefix string) {
	bucket, prefix, _ = strings.Cut(strings.TrimPrefix(c.URL, schemeS3), "/")
	return bucket, strings.Trim(prefix, "/")
}

// Open opens the bucket that cfg names; a directory is made when missing. It does not reach out to S3: Probe does.
func Open(ctx context.Context, cfg Config) (Bucket, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if dir, ok := strings.CutPrefix(cfg.URL, schemeFile); ok {
		return OpenDir(dir)
	}
	return openS3(ctx, cfg)
}

const (
	maxKeyLength     = 900 // S3 allows 1,024 bytes including the prefix
	maxSegmentLength = 240 // file systems allow 255
	maxMetadataBytes = 2048
)

// ValidateKey tells whether key can name an object in every kind of store. Keys are segments joined by single slashes;
// a segment has 1 to 240 bytes of [A-Za-z0-9._:=+@,-] and does not begin with a dot. So no key can
// climb out of its bucket, meet the store's own files, or mean two objects in two stores.
func ValidateKey(key string) error {
	if key == "" || len(key) > maxKeyLength {
		return fmt.Errorf("%w: %d bytes, 1 to %d are allowed", ErrInvalidKey, len(key), maxKeyLength)
	}
	for seg := range strings.SplitSeq(key, "/") {
		if seg == "" || seg[0] == '.' || len(seg) > maxSegmentLength {
			return fmt.Errorf("%w: %q: segment %q is empty, too long or begins with a dot", ErrInvalidKey, key, seg)
		}
		for i := range len(seg) {
			if !keyByte(seg[i]) {
				return fmt.Errorf("%w: %q: byte 0x%02x", ErrInvalidKey, key, seg[i])
			}
		}
	}
	return nil
}

func keyByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._:=+@,-", c) >= 0
}

func validateMetadata(m map[string]string) error {
	size := 0
	for k, v := range m {
		size += len(k) + len(v)
		if k == "" || strings.Trim(k, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return fmt.Errorf("%w: metadata key %q is not [a-z0-9-]", ErrInvalidKey, k)
		}
		for i := range len(v) {
			if v[i] < 0x20 || v[i] > 0x7e {
				return fmt.Errorf("%w: metadata %s: byte 0x%02x is not printable ASCII", ErrInvalidKey, k, v[i])
			}
		}
		if v != strings.TrimSpace(v) || v == "" {
			return fmt.Errorf("%w: metadata %s: value is empty or begins or ends with space", ErrInvalidKey, k)
		}
	}
	if size > maxMetadataBytes {
		return fmt.Errorf("%w: metadata of %d bytes, at most %d are allowed", ErrInvalidKey, size, maxMetadataBytes)
	}
	return nil
}
