# All names below some mount points, with all that Linux keeps of a file, and the checksums of files.
#
# find tells nearly all of it, md5sum the rest, and in C: an emulated machine has no time for more.  Only extended
# attributes are asked for here, in Perl, because Debian's smallest systems have it, OSCAR is written in it, and nothing
# else that is on any machine tells them and takes names of any bytes.  Its syscall() is all that they need.
#
# Given: the mark that starts a section line; `given` or a time in seconds since 1970; mount points.  With `given`,
# standard input has lines as md5sum writes them: told are only the checksums that differ from those.  With a time, which
# is when the disk was made, told are the checksums of what has been touched since, as its kernel notes it (ctime): what
# has not is what it was, and to read all of a disk takes an emulated machine minutes.  "-" is the checksum of what cannot
# be read.
#
# A name is one line: type, mode, owner, group, size, time, blocks of 512 bytes, number of names, inode, path, and then
# what only some have, as name=value.  Whatever is no printable ASCII, or is a space, a backslash or an equals sign, is
# written \xHH.
use strict;
use warnings;
use Config;

my ($mark, $which, @places) = @ARGV;
# lgetxattr, llistxattr
my %CALLS = (x86_64 => [192, 195], i386 => [230, 233], aarch64 => [9, 12]);
my ($arch) = $Config{archname} =~ /^(x86_64|i.86|aarch64)/ or die "attributes cannot be read on $Config{archname}\n";
$arch =~ s/^i.86$/i386/;
my ($GET, $LIST) = @{$CALLS{$arch}};
my $KEPT = qr/^(?:security\.capability|system\.posix_acl_(?:access|default)|user\..*)$/s;

my $started = time;

sub shown {
    my ($text) = @_;
    $text =~ s/([^!-<>-\[\]-~])/sprintf '\x%02x', ord $1/ge;
    return $text;
}

# told(CALL, PATH, ...): what the kernel writes into a buffer.
my $buffer = "\0" x 65536;
sub told {
    my $size = syscall shift, @_, $buffer, length $buffer;
    return $size > 0 ? substr $buffer, 0, $size : '';
}

print "\n$mark tree\n";
my (@files, $seen);
my @status = qw(%y %m %U %G %s %T@ %b %n %D:%i);
open my $names, '-|', 'find', @places, '-xdev', '-printf', "@status\\0%C@\\0%p\\0%l\\0" or die "find: $!\n" if @places;
my $rest = '';
while ($names and read $names, my $part, 65536) {
    my @found = split /\0/, $rest . $part, -1;
    my $whole = 4 * int((@found - 1) / 4);
    $rest = join "\0", splice @found, $whole;
    while (my ($status, $changed, $path, $target) = splice @found, 0, 4) {
        my $type = substr $status, 0, 1;
        if ($type eq 'f' && $which ne 'given') {
            $seen++;
            push @files, $path if $changed > $which;
        }
        # nearly no file has any: the kernel is asked for room only when one has
        my $more = $type eq 'l' ? ' target=' . shown($target) : 0 < syscall($LIST, $path, 0, 0) ? attributes($path) : '';
        print $status, ' ', $path =~ tr/!-<>-[]-~//c ? shown($path) : $path, $more, "\n";
    }
}
if ($names) {
    close $names;  # its status says as well that a name has gone meanwhile
    die 'find was ended by signal ', $? & 127, "\n" if $? & 127;
}

sub attributes {
    my ($path) = @_;
    return join '', map { ' ' . shown($_) . '=' . unpack 'H*', told($GET, $path, $_) }
        grep { /$KEPT/ } split /\0/, told($LIST, $path);
}

# hashing(FEED, WORDS): what md5sum says of what FEED writes to it, in a child: whatever else is tested comes first.
sub hashing {
    my ($feed, @words) = @_;
    my $child = open my $said, '-|';
    defined $child or die "fork: $!\n";
    return $said if $child;
    open STDERR, '>', '/dev/null';  # files may go away meanwhile
    open my $hashing, '|-', 'nice', '-n', '10', @words or die "md5sum: $!\n";
    $feed->($hashing);
    close $hashing;
    exit($? >> 8);
}

# ended(PIPE, STATUS): it did, with 0 or a status that only says that some file was not as it should be.
sub ended {
    my ($said, $some) = @_;
    close $said;
    die "md5sum ended with ", $? >> 8, "\n" if $? && $? >> 8 != $some;
}

# plain(ODD, PATH): a path as it is, of which md5sum has put a backslash in front of the line if there are such in it.
sub plain {
    my ($odd, $path) = @_;
    my %plain = (n => "\n", r => "\r", '\\' => '\\');
    $path =~ s/\\([nr\\])/$plain{$1}/g if $odd;
    $path =~ s/^\.//;
    return $path;
}

# tell_sums(PATHS): the checksums of these.
sub tell_sums {
    my @paths = @_;
    my %left = map { $_ => 1 } @paths;
    my $said = hashing(sub { my ($to) = @_; print $to map { "$_\0" } @paths }, 'xargs', '-0', 'md5sum', '--');
    while (my $line = <$said>) {
        chomp $line;
        my ($odd, $sum, $path) = $line =~ /^(\\?)([0-9a-f]{32}) [ *](.*)$/s or die "no checksum: $line\n";
        $path = plain($odd, $path);
        delete $left{$path};
        print "$sum ", shown($path), "\n";
    }
    ended($said, 123);
    print '- ', shown($_), "\n" for sort keys %left;
}

# wrong(): the paths of which standard input has another checksum; how many it has, is counted.
sub wrong {
    my $said = hashing(sub {
        my ($to) = @_;
        my $count = 0;
        while (my $line = <STDIN>) {
            $count++ if $line =~ /^\\?[0-9a-f]{32}  \./;
            print $to $line;
        }
        print "$count\n";
    }, 'md5sum', '-c', '-');
    my @wrong;
    while (my $line = <$said>) {
        next if $line =~ /: OK$/;
        chomp $line;
        if ($line =~ /^(\\?)(.*): FAILED(?: open or read)?$/s) {
            push @wrong, plain($1, $2);
        } else {
            ($seen) = $line =~ /^(\d+)$/ or die "md5sum says $line\n";
        }
    }
    ended($said, 1);
    $seen or die "there are no checksums to compare with\n";
    return @wrong;
}

$| = 1;  # nothing is to be said twice, by children too
print "\n$mark sums\n";
chdir '/';
@files = wrong() if $which eq 'given';
tell_sums(@files) if @files;
print "\n$mark elapsed\n", time - $started, ' ', $seen || 0, "\n";
