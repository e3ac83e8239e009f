# All names below some mount points, with all that Linux keeps of a file, and the checksums of files.
#
# In Perl, because Debian's smallest systems have it, OSCAR is written in it, and nothing else that is on any machine
# tells extended attributes and takes names of any bytes.  Its syscall() is all that the attributes need.
#
# Given: the mark that starts a section line; `given` or a time in seconds since 1970; mount points.  With `given`,
# standard input has lines as md5sum writes them: told are only the checksums that differ from those.  With a time, which
# is when the disk was made, told are the checksums of what has been touched since, as its kernel notes it (ctime): what
# has not is what it was, and to read all of a disk takes an emulated machine minutes.  "-" is the checksum of what cannot
# be read.
#
# A name is one line: type, mode, owner, group, size, time, path, and then what only some have, as name=value.  Whatever
# is no printable ASCII, or is a space, a backslash or an equals sign, is written \xHH.
use strict;
use warnings;
use Config;

my ($mark, $which, @places) = @ARGV;
my %LETTERS = (0100000, 'f', 0040000, 'd', 0120000, 'l', 0010000, 'p', 0140000, 's', 0020000, 'c', 0060000, 'b');
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

my (@files, $seen);

sub tell_of {
    my ($path, @status) = @_;
    my ($device, $inode, $mode, $links, $uid, $gid, $size, $blocks) = @status[0 .. 5, 7, 12];
    my $type = $LETTERS{$mode & 0170000};
    my @more;
    push @more, 'target=' . shown(readlink $path) if $type eq 'l';
    if ($type eq 'f') {
        push @files, $path if $which eq 'given' || $status[10] > $which;
        $seen++;
        push @more, 'holes=' . ($size - 512 * $blocks) if $size > 512 * $blocks;
    }
    push @more, "inode=$device:$inode" if $links > 1 && $type =~ /[fp]/;
    if ($type ne 'l') {
        push @more, map { shown($_) . '=' . unpack 'H*', told($GET, $path, $_) }
            grep { /$KEPT/ } split /\0/, told($LIST, $path);
    }
    $size = 0 if $type ne 'f';
    printf "%s %o %d %d %d %d %s\n", $type, $mode & 07777, $uid, $gid, $size, $status[9], join ' ', shown($path), @more;
}

sub walk {
    my ($folder, $device) = @_;
    opendir my $names, $folder or return;
    for my $name (grep { $_ ne '.' && $_ ne '..' } readdir $names) {
        my $path = $folder eq '/' ? "/$name" : "$folder/$name";
        my @status = lstat $path or next;
        my $inside = -d _ && $status[0] == $device;
        tell_of($path, @status);
        walk($path, $device) if $inside;
    }
}

print "\n$mark tree\n";
for my $place (@places) {
    my @status = lstat $place or next;
    tell_of($place, @status);
    walk($place, $status[0]);
}

# read_sum(LINE): path and checksum, from a line as md5sum writes it.
sub read_sum {
    my ($odd, $sum, $path) = $_[0] =~ /^(\\?)([0-9a-f]{32}) [ *](.*)$/s or die "no checksum: $_[0]\n";
    my %plain = (n => "\n", r => "\r", '\\' => '\\');
    $path =~ s/\\([nr\\])/$plain{$1}/g if $odd;
    $path =~ s/^\.//;
    return ($path, $sum);
}

print "\n$mark sums\n";
my %wanted;
if ($which eq 'given') {
    while (my $line = <STDIN>) {
        chomp $line;
        my ($path, $sum) = read_sum($line);
        $wanted{$path} = $sum;
    }
    %wanted or die "there are no checksums to compare with\n";
    @files = grep { exists $wanted{$_} } @files;
    $seen = @files;
}
my %left = map { $_ => 1 } @files;
$| = 1;  # nothing is to be said twice, by the child too
my $child = open my $sums, '-|';
defined $child or die "fork: $!\n";
if (!$child) {
    # Whatever else is tested meanwhile comes first.
    open STDERR, '>', '/dev/null';  # files may go away meanwhile
    open my $hashing, '|-', 'nice', '-n', '10', 'xargs', '-0', 'md5sum', '--' or die "md5sum: $!\n";
    print $hashing map { "$_\0" } @files;
    close $hashing;
    exit($? >> 8);
}
while (my $line = <$sums>) {
    chomp $line;
    my ($path, $sum) = read_sum($line);
    delete $left{$path};
    print "$sum ", shown($path), "\n" if ($wanted{$path} || '') ne $sum;
}
close $sums;
die "md5sum ended with ", $? >> 8, "\n" if $? && $? >> 8 != 123;
print '- ', shown($_), "\n" for sort keys %left;
print "\n$mark elapsed\n", time - $started, ' ', $seen || 0, "\n";
