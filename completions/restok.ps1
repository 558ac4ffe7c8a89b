# PowerShell completion for restok. Made by completions/build.py: change that, and run it.
# Call it from $PROFILE: . path/to/restok.ps1

# Kinds of values: their words, and whether files or folders may stand there too.
$global:restokValues = @{
    'all' = @{
        Words = @(
            'all'
        )
        Paths = ''
    }
    'auto' = @{
        Words = @(
            'auto'
        )
        Paths = ''
    }
    'auto|float32|bf16' = @{
        Words = @(
            'auto', 'float32', 'bf16'
        )
        Paths = ''
    }
    'auto|on|off' = @{
        Words = @(
            'auto', 'on', 'off'
        )
        Paths = ''
    }
    'class names' = @{
        Words = @(
            'imagenet'
        )
        Paths = 'files'
    }
    'classes' = @{
        Words = @(
            'all', 'random', 'face-smiling', 'face-affection', 'face-tongue', 'face-hand', 'face-neutral-skeptical',
            'face-sleepy', 'face-unwell', 'face-hat', 'face-glasses', 'face-concerned', 'face-negative', 'face-costume',
            'cat-face', 'monkey-face', 'heart', 'emotion', 'hand-fingers-open', 'hand-fingers-partial',
            'hand-single-finger', 'hand-fingers-closed', 'hands', 'hand-prop', 'body-parts', 'person', 'person-gesture',
            'person-role', 'person-fantasy', 'person-activity', 'person-sport', 'person-resting', 'family',
            'person-symbol', 'animal-mammal', 'animal-bird', 'animal-amphibian', 'animal-reptile', 'animal-marine',
            'animal-bug', 'plant-flower', 'plant-other', 'food-fruit', 'food-vegetable', 'food-prepared', 'food-asian',
            'food-sweet', 'drink', 'dishware', 'place-map', 'place-geographic', 'place-building', 'place-religious',
            'place-other', 'transport-ground', 'transport-water', 'transport-air', 'hotel', 'time', 'sky & weather',
            'event', 'award-medal', 'sport', 'game', 'arts & crafts', 'clothing', 'sound', 'music',
            'musical-instrument', 'phone', 'computer', 'light & video', 'book-paper', 'money', 'mail', 'writing',
            'office', 'lock', 'tool', 'science', 'medical', 'household', 'other-object', 'transport-sign', 'warning',
            'arrow', 'religion', 'zodiac', 'av-symbol', 'gender', 'math', 'punctuation', 'currency', 'other-symbol',
            'keycap', 'alphanum', 'geometric', 'flag', 'country-flag', 'subdivision-flag', 'tench', 'goldfish',
            'great white shark', 'tiger shark', 'hammerhead', 'electric ray', 'stingray', 'cock', 'hen', 'ostrich',
            'brambling', 'goldfinch', 'house finch', 'junco', 'indigo bunting', 'robin', 'bulbul', 'jay', 'magpie',
            'chickadee', 'water ouzel', 'kite', 'bald eagle', 'vulture', 'great grey owl', 'European fire salamander',
            'common newt', 'eft', 'spotted salamander', 'axolotl', 'bullfrog', 'tree frog', 'tailed frog', 'loggerhead',
            'leatherback turtle', 'mud turtle', 'terrapin', 'box turtle', 'banded gecko', 'common iguana',
            'American chameleon', 'whiptail', 'agama', 'frilled lizard', 'alligator lizard', 'Gila monster',
            'green lizard', 'African chameleon', 'Komodo dragon', 'African crocodile', 'American alligator',
            'triceratops', 'thunder snake', 'ringneck snake', 'hognose snake', 'green snake', 'king snake',
            'garter snake', 'water snake', 'vine snake', 'night snake', 'boa constrictor', 'rock python',
            'Indian cobra', 'green mamba', 'sea snake', 'horned viper', 'diamondback', 'sidewinder', 'trilobite',
            'harvestman', 'scorpion', 'black and gold garden spider', 'barn spider', 'garden spider', 'black widow',
            'tarantula', 'wolf spider', 'tick', 'centipede', 'black grouse', 'ptarmigan', 'ruffed grouse',
            'prairie chicken', 'peacock', 'quail', 'partridge', 'African grey', 'macaw', 'sulphur-crested cockatoo',
            'lorikeet', 'coucal', 'bee eater', 'hornbill', 'hummingbird', 'jacamar', 'toucan', 'drake',
            'red-breasted merganser', 'goose', 'black swan', 'tusker', 'echidna', 'platypus', 'wallaby', 'koala',
            'wombat', 'jellyfish', 'sea anemone', 'brain coral', 'flatworm', 'nematode', 'conch', 'snail', 'slug',
            'sea slug', 'chiton', 'chambered nautilus', 'Dungeness crab', 'rock crab', 'fiddler crab', 'king crab',
            'American lobster', 'spiny lobster', 'crayfish', 'hermit crab', 'isopod', 'white stork', 'black stork',
            'spoonbill', 'flamingo', 'little blue heron', 'American egret', 'bittern', 'crane (bird)', 'limpkin',
            'European gallinule', 'American coot', 'bustard', 'ruddy turnstone', 'red-backed sandpiper', 'redshank',
            'dowitcher', 'oystercatcher', 'pelican', 'king penguin', 'albatross', 'grey whale', 'killer whale',
            'dugong', 'sea lion', 'Chihuahua', 'Japanese spaniel', 'Maltese dog', 'Pekinese', 'Shih-Tzu',
            'Blenheim spaniel', 'papillon', 'toy terrier', 'Rhodesian ridgeback', 'Afghan hound', 'basset', 'beagle',
            'bloodhound', 'bluetick', 'black-and-tan coonhound', 'Walker hound', 'English foxhound', 'redbone',
            'borzoi', 'Irish wolfhound', 'Italian greyhound', 'whippet', 'Ibizan hound', 'Norwegian elkhound',
            'otterhound', 'Saluki', 'Scottish deerhound', 'Weimaraner', 'Staffordshire bullterrier',
            'American Staffordshire terrier', 'Bedlington terrier', 'Border terrier', 'Kerry blue terrier',
            'Irish terrier', 'Norfolk terrier', 'Norwich terrier', 'Yorkshire terrier', 'wire-haired fox terrier',
            'Lakeland terrier', 'Sealyham terrier', 'Airedale', 'cairn', 'Australian terrier', 'Dandie Dinmont',
            'Boston bull', 'miniature schnauzer', 'giant schnauzer', 'standard schnauzer', 'Scotch terrier',
            'Tibetan terrier', 'silky terrier', 'soft-coated wheaten terrier', 'West Highland white terrier', 'Lhasa',
            'flat-coated retriever', 'curly-coated retriever', 'golden retriever', 'Labrador retriever',
            'Chesapeake Bay retriever', 'German short-haired pointer', 'vizsla', 'English setter', 'Irish setter',
            'Gordon setter', 'Brittany spaniel', 'clumber', 'English springer', 'Welsh springer spaniel',
            'cocker spaniel', 'Sussex spaniel', 'Irish water spaniel', 'kuvasz', 'schipperke', 'groenendael',
            'malinois', 'briard', 'kelpie', 'komondor', 'Old English sheepdog', 'Shetland sheepdog', 'collie',
            'Border collie', 'Bouvier des Flandres', 'Rottweiler', 'German shepherd', 'Doberman', 'miniature pinscher',
            'Greater Swiss Mountain dog', 'Bernese mountain dog', 'Appenzeller', 'EntleBucher', 'boxer', 'bull mastiff',
            'Tibetan mastiff', 'French bulldog', 'Great Dane', 'Saint Bernard', 'Eskimo dog', 'malamute',
            'Siberian husky', 'dalmatian', 'affenpinscher', 'basenji', 'pug', 'Leonberg', 'Newfoundland',
            'Great Pyrenees', 'Samoyed', 'Pomeranian', 'chow', 'keeshond', 'Brabancon griffon', 'Pembroke', 'Cardigan',
            'toy poodle', 'miniature poodle', 'standard poodle', 'Mexican hairless', 'timber wolf', 'white wolf',
            'red wolf', 'coyote', 'dingo', 'dhole', 'African hunting dog', 'hyena', 'red fox', 'kit fox', 'Arctic fox',
            'grey fox', 'tabby', 'tiger cat', 'Persian cat', 'Siamese cat', 'Egyptian cat', 'cougar', 'lynx', 'leopard',
            'snow leopard', 'jaguar', 'lion', 'tiger', 'cheetah', 'brown bear', 'American black bear', 'ice bear',
            'sloth bear', 'mongoose', 'meerkat', 'tiger beetle', 'ladybug', 'ground beetle', 'long-horned beetle',
            'leaf beetle', 'dung beetle', 'rhinoceros beetle', 'weevil', 'fly', 'bee', 'ant', 'grasshopper', 'cricket',
            'walking stick', 'cockroach', 'mantis', 'cicada', 'leafhopper', 'lacewing', 'dragonfly', 'damselfly',
            'admiral', 'ringlet', 'monarch', 'cabbage butterfly', 'sulphur butterfly', 'lycaenid', 'starfish',
            'sea urchin', 'sea cucumber', 'wood rabbit', 'hare', 'Angora', 'hamster', 'porcupine', 'fox squirrel',
            'marmot', 'beaver', 'guinea pig', 'sorrel', 'zebra', 'hog', 'wild boar', 'warthog', 'hippopotamus', 'ox',
            'water buffalo', 'bison', 'ram', 'bighorn', 'ibex', 'hartebeest', 'impala', 'gazelle', 'Arabian camel',
            'llama', 'weasel', 'mink', 'polecat', 'black-footed ferret', 'otter', 'skunk', 'badger', 'armadillo',
            'three-toed sloth', 'orangutan', 'gorilla', 'chimpanzee', 'gibbon', 'siamang', 'guenon', 'patas', 'baboon',
            'macaque', 'langur', 'colobus', 'proboscis monkey', 'marmoset', 'capuchin', 'howler monkey', 'titi',
            'spider monkey', 'squirrel monkey', 'Madagascar cat', 'indri', 'Indian elephant', 'African elephant',
            'lesser panda', 'giant panda', 'barracouta', 'eel', 'coho', 'rock beauty', 'anemone fish', 'sturgeon',
            'gar', 'lionfish', 'puffer', 'abacus', 'abaya', 'academic gown', 'accordion', 'acoustic guitar',
            'aircraft carrier', 'airliner', 'airship', 'altar', 'ambulance', 'amphibian', 'analog clock', 'apiary',
            'apron', 'ashcan', 'assault rifle', 'backpack', 'bakery', 'balance beam', 'balloon', 'ballpoint',
            'Band Aid', 'banjo', 'bannister', 'barbell', 'barber chair', 'barbershop', 'barn', 'barometer', 'barrel',
            'barrow', 'baseball', 'basketball', 'bassinet', 'bassoon', 'bathing cap', 'bath towel', 'bathtub',
            'beach wagon', 'beacon', 'beaker', 'bearskin', 'beer bottle', 'beer glass', 'bell cote', 'bib',
            'bicycle-built-for-two', 'bikini', 'binder', 'binoculars', 'birdhouse', 'boathouse', 'bobsled', 'bolo tie',
            'bonnet', 'bookcase', 'bookshop', 'bottlecap', 'bow', 'bow tie', 'brass', 'brassiere', 'breakwater',
            'breastplate', 'broom', 'bucket', 'buckle', 'bulletproof vest', 'bullet train', 'butcher shop', 'cab',
            'caldron', 'candle', 'cannon', 'canoe', 'can opener', 'cardigan', 'car mirror', 'carousel',
            'carpenter''s kit', 'carton', 'car wheel', 'cash machine', 'cassette', 'cassette player', 'castle',
            'catamaran', 'CD player', 'cello', 'cellular telephone', 'chain', 'chainlink fence', 'chain mail',
            'chain saw', 'chest', 'chiffonier', 'chime', 'china cabinet', 'Christmas stocking', 'church', 'cinema',
            'cleaver', 'cliff dwelling', 'cloak', 'clog', 'cocktail shaker', 'coffee mug', 'coffeepot', 'coil',
            'combination lock', 'computer keyboard', 'confectionery', 'container ship', 'convertible', 'corkscrew',
            'cornet', 'cowboy boot', 'cowboy hat', 'cradle', 'crane (machine)', 'crash helmet', 'crate', 'crib',
            'Crock Pot', 'croquet ball', 'crutch', 'cuirass', 'dam', 'desk', 'desktop computer', 'dial telephone',
            'diaper', 'digital clock', 'digital watch', 'dining table', 'dishrag', 'dishwasher', 'disk brake', 'dock',
            'dogsled', 'dome', 'doormat', 'drilling platform', 'drum', 'drumstick', 'dumbbell', 'Dutch oven',
            'electric fan', 'electric guitar', 'electric locomotive', 'entertainment center', 'envelope',
            'espresso maker', 'face powder', 'feather boa', 'file', 'fireboat', 'fire engine', 'fire screen',
            'flagpole', 'flute', 'folding chair', 'football helmet', 'forklift', 'fountain', 'fountain pen',
            'four-poster', 'freight car', 'French horn', 'frying pan', 'fur coat', 'garbage truck', 'gasmask',
            'gas pump', 'goblet', 'go-kart', 'golf ball', 'golfcart', 'gondola', 'gong', 'gown', 'grand piano',
            'greenhouse', 'grille', 'grocery store', 'guillotine', 'hair slide', 'hair spray', 'half track', 'hammer',
            'hamper', 'hand blower', 'hand-held computer', 'handkerchief', 'hard disc', 'harmonica', 'harp',
            'harvester', 'hatchet', 'holster', 'home theater', 'honeycomb', 'hook', 'hoopskirt', 'horizontal bar',
            'horse cart', 'hourglass', 'iPod', 'iron', 'jack-o''-lantern', 'jean', 'jeep', 'jersey', 'jigsaw puzzle',
            'jinrikisha', 'joystick', 'kimono', 'knee pad', 'knot', 'lab coat', 'ladle', 'lampshade', 'laptop',
            'lawn mower', 'lens cap', 'letter opener', 'library', 'lifeboat', 'lighter', 'limousine', 'liner',
            'lipstick', 'Loafer', 'lotion', 'loudspeaker', 'loupe', 'lumbermill', 'magnetic compass', 'mailbag',
            'mailbox', 'maillot', 'maillot, tank suit', 'manhole cover', 'maraca', 'marimba', 'mask', 'matchstick',
            'maypole', 'maze', 'measuring cup', 'medicine chest', 'megalith', 'microphone', 'microwave',
            'military uniform', 'milk can', 'minibus', 'miniskirt', 'minivan', 'missile', 'mitten', 'mixing bowl',
            'mobile home', 'Model T', 'modem', 'monastery', 'monitor', 'moped', 'mortar', 'mortarboard', 'mosque',
            'mosquito net', 'motor scooter', 'mountain bike', 'mountain tent', 'mouse', 'mousetrap', 'moving van',
            'muzzle', 'nail', 'neck brace', 'necklace', 'nipple', 'notebook', 'obelisk', 'oboe', 'ocarina', 'odometer',
            'oil filter', 'organ', 'oscilloscope', 'overskirt', 'oxcart', 'oxygen mask', 'packet', 'paddle',
            'paddlewheel', 'padlock', 'paintbrush', 'pajama', 'palace', 'panpipe', 'paper towel', 'parachute',
            'parallel bars', 'park bench', 'parking meter', 'passenger car', 'patio', 'pay-phone', 'pedestal',
            'pencil box', 'pencil sharpener', 'perfume', 'Petri dish', 'photocopier', 'pick', 'pickelhaube',
            'picket fence', 'pickup', 'pier', 'piggy bank', 'pill bottle', 'pillow', 'ping-pong ball', 'pinwheel',
            'pirate', 'pitcher', 'plane', 'planetarium', 'plastic bag', 'plate rack', 'plow', 'plunger',
            'Polaroid camera', 'pole', 'police van', 'poncho', 'pool table', 'pop bottle', 'pot', 'potter''s wheel',
            'power drill', 'prayer rug', 'printer', 'prison', 'projectile', 'projector', 'puck', 'punching bag',
            'purse', 'quill', 'quilt', 'racer', 'racket', 'radiator', 'radio', 'radio telescope', 'rain barrel',
            'recreational vehicle', 'reel', 'reflex camera', 'refrigerator', 'remote control', 'restaurant', 'revolver',
            'rifle', 'rocking chair', 'rotisserie', 'rubber eraser', 'rugby ball', 'rule', 'running shoe', 'safe',
            'safety pin', 'saltshaker', 'sandal', 'sarong', 'sax', 'scabbard', 'scale', 'school bus', 'schooner',
            'scoreboard', 'screen', 'screw', 'screwdriver', 'seat belt', 'sewing machine', 'shield', 'shoe shop',
            'shoji', 'shopping basket', 'shopping cart', 'shovel', 'shower cap', 'shower curtain', 'ski', 'ski mask',
            'sleeping bag', 'slide rule', 'sliding door', 'slot', 'snorkel', 'snowmobile', 'snowplow', 'soap dispenser',
            'soccer ball', 'sock', 'solar dish', 'sombrero', 'soup bowl', 'space bar', 'space heater', 'space shuttle',
            'spatula', 'speedboat', 'spider web', 'spindle', 'sports car', 'spotlight', 'stage', 'steam locomotive',
            'steel arch bridge', 'steel drum', 'stethoscope', 'stole', 'stone wall', 'stopwatch', 'stove', 'strainer',
            'streetcar', 'stretcher', 'studio couch', 'stupa', 'submarine', 'suit', 'sundial', 'sunglass', 'sunglasses',
            'sunscreen', 'suspension bridge', 'swab', 'sweatshirt', 'swimming trunks', 'swing', 'switch', 'syringe',
            'table lamp', 'tank', 'tape player', 'teapot', 'teddy', 'television', 'tennis ball', 'thatch',
            'theater curtain', 'thimble', 'thresher', 'throne', 'tile roof', 'toaster', 'tobacco shop', 'toilet seat',
            'torch', 'totem pole', 'tow truck', 'toyshop', 'tractor', 'trailer truck', 'tray', 'trench coat',
            'tricycle', 'trimaran', 'tripod', 'triumphal arch', 'trolleybus', 'trombone', 'tub', 'turnstile',
            'typewriter keyboard', 'umbrella', 'unicycle', 'upright', 'vacuum', 'vase', 'vault', 'velvet',
            'vending machine', 'vestment', 'viaduct', 'violin', 'volleyball', 'waffle iron', 'wall clock', 'wallet',
            'wardrobe', 'warplane', 'washbasin', 'washer', 'water bottle', 'water jug', 'water tower', 'whiskey jug',
            'whistle', 'wig', 'window screen', 'window shade', 'Windsor tie', 'wine bottle', 'wing', 'wok',
            'wooden spoon', 'wool', 'worm fence', 'wreck', 'yawl', 'yurt', 'web site', 'comic book', 'crossword puzzle',
            'street sign', 'traffic light', 'book jacket', 'menu', 'plate', 'guacamole', 'consomme', 'hot pot',
            'trifle', 'ice cream', 'ice lolly', 'French loaf', 'bagel', 'pretzel', 'cheeseburger', 'hotdog',
            'mashed potato', 'head cabbage', 'broccoli', 'cauliflower', 'zucchini', 'spaghetti squash', 'acorn squash',
            'butternut squash', 'cucumber', 'artichoke', 'bell pepper', 'cardoon', 'mushroom', 'Granny Smith',
            'strawberry', 'orange', 'lemon', 'fig', 'pineapple', 'banana', 'jackfruit', 'custard apple', 'pomegranate',
            'hay', 'carbonara', 'chocolate sauce', 'dough', 'meat loaf', 'pizza', 'potpie', 'burrito', 'red wine',
            'espresso', 'cup', 'eggnog', 'alp', 'bubble', 'cliff', 'coral reef', 'geyser', 'lakeside', 'promontory',
            'sandbar', 'seashore', 'valley', 'volcano', 'ballplayer', 'groom', 'scuba diver', 'rapeseed', 'daisy',
            'yellow lady''s slipper', 'corn', 'acorn', 'hip', 'buckeye', 'coral fungus', 'agaric', 'gyromitra',
            'stinkhorn', 'earthstar', 'hen-of-the-woods', 'bolete', 'ear', 'toilet tissue'
        )
        Paths = ''
    }
    'configs' = @{
        Words = @(
            'ar-l', 'har-1b', 'har-3b', 'har-b', 'har-l', 'har-xl', 'har-xxl', 'har-xxxl', 'restok-b-128',
            'restok-l-128', 'restok-l-128-1-stage', 'restok-l-128-2-stages', 'restok-l-128-3-stages',
            'restok-l-128-image-residuals', 'restok-l-128-latent-residuals', 'restok-l-128-no-alignment',
            'restok-l-128-no-nested-dropout', 'restok-l-128-no-residuals', 'restok-l-128-released', 'restok-s-128',
            'sample', 'sample-gpu', 'tiny'
        )
        Paths = 'files'
    }
    'constant|linear|linear-reversed|linear-constant|triangular|rectangular|step|cosine|cosine-reversed' = @{
        Words = @(
            'constant', 'linear', 'linear-reversed', 'linear-constant', 'triangular', 'rectangular', 'step', 'cosine',
            'cosine-reversed'
        )
        Paths = ''
    }
    'data' = @{
        Words = @(
            'sample'
        )
        Paths = 'folders'
    }
    'devices' = @{
        Words = @(
            'auto', 'cpu', 'cuda', 'mps'
        )
        Paths = ''
    }
    'files' = @{
        Words = @()
        Paths = 'files'
    }
    'float32|bf16' = @{
        Words = @(
            'float32', 'bf16'
        )
        Paths = ''
    }
    'folders' = @{
        Words = @()
        Paths = 'folders'
    }
    'h100|h200|a100|l40s|4090|3090|mi300x|cpu' = @{
        Words = @(
            'h100', 'h200', 'a100', 'l40s', '4090', '3090', 'mi300x', 'cpu'
        )
        Paths = ''
    }
    'har presets' = @{
        Words = @(
            'ar-l', 'har-1b', 'har-3b', 'har-b', 'har-l', 'har-xl', 'har-xxl', 'har-xxxl', 'sample', 'sample-gpu',
            'tiny'
        )
        Paths = ''
    }
    'har settings' = @{
        Words = @(
            'model.codebook_size=', 'model.num_codes=', 'model.num_sequential_codes=', 'model.num_classes=',
            'model.width=', 'model.num_layers=', 'model.num_heads=', 'model.class_dropout=', 'model.token_dropout=',
            'model.residual_dropout=', 'model.ffn_dropout=', 'data.crop=', 'data.random_zoom=',
            'data.random_crop_area=', 'data.random_flip=', 'data.num_workers=', 'data.broken_limit=',
            'data.max_member_bytes=', 'optimizer.schedule=', 'optimizer.learning_rate=',
            'optimizer.final_learning_rate=', 'optimizer.warmup_steps=', 'optimizer.decay_steps=', 'optimizer.beta1=',
            'optimizer.beta2=', 'optimizer.weight_decay=', 'optimizer.max_grad_norm=', 'schedule.max_steps=',
            'schedule.batch_size=', 'schedule.micro_batch_size=', 'schedule.seed=', 'schedule.ema_decay=',
            'schedule.log_every=', 'schedule.preview_every=', 'schedule.validate_every=', 'schedule.validation_images=',
            'schedule.save_every=', 'schedule.keep_checkpoints=', 'schedule.keep_every=', 'schedule.early_stop=',
            'compute.precision=', 'compute.compile=', 'compute.memory=', 'compute.deterministic=', 'compute.sharding=',
            'health.max_skipped_steps=', 'health.warn_data_wait='
        )
        Paths = ''
    }
    'limits' = @{
        Words = @(
            'gfid=', 'rfid=', 'fid=', 'fid-inf=', 'pfid=', 'sfid=', 'is=', 'precision=', 'recall=', 'kid=', 'density=',
            'coverage=', 'mind=', 'cmmd=', 'psnr=', 'ssim=', 'ms-ssim=', 'lpips=', 'mse=', 'codebook_usage=',
            'codebook_entropy=', 'codebook_perplexity=', 'nll='
        )
        Paths = ''
    }
    'metric' = @{
        Words = @(
            'gfid', 'rfid', 'fid', 'fid-inf', 'pfid', 'sfid', 'is', 'precision', 'recall', 'kid', 'density', 'coverage',
            'mind', 'cmmd', 'psnr', 'ssim', 'ms-ssim', 'lpips', 'mse', 'codebook', 'nll', 'all'
        )
        Paths = ''
    }
    'metric of sets' = @{
        Words = @(
            'gfid', 'fid', 'fid-inf', 'sfid', 'is', 'precision', 'recall', 'kid', 'density', 'coverage', 'mind', 'cmmd'
        )
        Paths = ''
    }
    'models' = @{
        Words = @(
            'sample', 'hf:xushu-me/restok_l_128.r256_in1k', 'hf:xushu-me/llamagen_l_c2i_restok_l_128.r256_in1k'
        )
        Paths = 'folders'
    }
    'networks' = @{
        Words = @(
            'inception', 'dinov2', 'clip', 'vgg16', 'timm:', 'random'
        )
        Paths = ''
    }
    'options to try' = @{
        Words = @(
            'cfg_scale=', 'cfg_schedule=', 'cfg_start=', 'cfg_stop=', 'cfg_peak=', 'temperature=', 'top_k=', 'top_p='
        )
        Paths = ''
    }
    'parts' = @{
        Words = @(
            'encode', 'decode', 'generate', 'ar', 'train', 'loading', 'inception'
        )
        Paths = ''
    }
    'pictures' = @{
        Words = @(
            'sample'
        )
        Paths = 'files'
    }
    'presets' = @{
        Words = @(
            'restok-b-128', 'restok-l-128', 'restok-l-128-1-stage', 'restok-l-128-2-stages', 'restok-l-128-3-stages',
            'restok-l-128-image-residuals', 'restok-l-128-latent-residuals', 'restok-l-128-no-alignment',
            'restok-l-128-no-nested-dropout', 'restok-l-128-no-residuals', 'restok-l-128-released', 'restok-s-128',
            'sample', 'sample-gpu', 'tiny', 'ar-l', 'har-1b', 'har-3b', 'har-b', 'har-l', 'har-xl', 'har-xxl',
            'har-xxxl'
        )
        Paths = ''
    }
    'quick|full' = @{
        Words = @(
            'quick', 'full'
        )
        Paths = ''
    }
    'ten-crop|flip|centre' = @{
        Words = @(
            'ten-crop', 'flip', 'centre'
        )
        Paths = ''
    }
    'tokenizer and har settings' = @{
        Words = @(
            'model.image_height=', 'model.image_width=', 'model.patch_size=', 'model.pixel_encoder=',
            'model.cnn_channels=', 'model.cnn_multipliers=', 'model.cnn_norm_groups=', 'model.cnn_shortcut=',
            'model.feature_channels=', 'model.encoder_width=', 'model.encoder_layers=', 'model.decoder_width=',
            'model.decoder_layers=', 'model.head_width=', 'model.num_stages=', 'model.merge_factor=', 'model.merge=',
            'model.residual_image_tokens=', 'model.num_latent_tokens=', 'model.latent_init=',
            'model.residual_latent_tokens=', 'model.latent_layout=', 'model.head_per_level=', 'model.image_queries=',
            'model.codebook_size=', 'model.codebook_dim=', 'model.normalize_codes=', 'model.encoder_alignment_dim=',
            'model.decoder_alignment_dim=', 'data.crop=', 'data.random_zoom=', 'data.random_crop_area=',
            'data.random_flip=', 'data.num_workers=', 'data.broken_limit=', 'data.max_member_bytes=',
            'optimizer.schedule=', 'optimizer.learning_rate=', 'optimizer.final_learning_rate=',
            'optimizer.warmup_steps=', 'optimizer.decay_steps=', 'optimizer.beta1=', 'optimizer.beta2=',
            'optimizer.weight_decay=', 'optimizer.max_grad_norm=', 'schedule.max_steps=', 'schedule.batch_size=',
            'schedule.micro_batch_size=', 'schedule.seed=', 'schedule.ema_decay=', 'schedule.log_every=',
            'schedule.preview_every=', 'schedule.validate_every=', 'schedule.validation_images=',
            'schedule.save_every=', 'schedule.keep_checkpoints=', 'schedule.keep_every=', 'schedule.early_stop=',
            'schedule.initial_convolutions=', 'loss.reconstruction=', 'loss.reconstruction_weight=',
            'loss.quantizer_weight=', 'loss.entropy_weight=', 'loss.perceptual_weight=', 'loss.lpips_weights=',
            'alignment.encoder_weight=', 'alignment.decoder_weight=', 'alignment.margin=', 'alignment.teacher=',
            'alignment.weights=', 'discriminator.weight=', 'discriminator.start_step=', 'discriminator.kind=',
            'discriminator.weights=', 'discriminator.augment_probability=', 'discriminator.augment_range=',
            'discriminator.lecam_weight=', 'discriminator.lecam_decay=', 'discriminator.optimizer.schedule=',
            'discriminator.optimizer.learning_rate=', 'discriminator.optimizer.final_learning_rate=',
            'discriminator.optimizer.warmup_steps=', 'discriminator.optimizer.decay_steps=',
            'discriminator.optimizer.beta1=', 'discriminator.optimizer.beta2=', 'discriminator.optimizer.weight_decay=',
            'discriminator.optimizer.max_grad_norm=', 'nested_dropout.probability=', 'nested_dropout.min_tokens=',
            'revival.every=', 'revival.until=', 'compute.precision=', 'compute.compile=', 'compute.memory=',
            'compute.deterministic=', 'health.max_skipped_steps=', 'health.warn_data_wait=',
            'health.warn_codebook_usage=', 'model.num_codes=', 'model.num_sequential_codes=', 'model.num_classes=',
            'model.width=', 'model.num_layers=', 'model.num_heads=', 'model.class_dropout=', 'model.token_dropout=',
            'model.residual_dropout=', 'model.ffn_dropout=', 'compute.sharding='
        )
        Paths = ''
    }
    'tokenizer presets' = @{
        Words = @(
            'restok-b-128', 'restok-l-128', 'restok-l-128-1-stage', 'restok-l-128-2-stages', 'restok-l-128-3-stages',
            'restok-l-128-image-residuals', 'restok-l-128-latent-residuals', 'restok-l-128-no-alignment',
            'restok-l-128-no-nested-dropout', 'restok-l-128-no-residuals', 'restok-l-128-released', 'restok-s-128',
            'sample', 'sample-gpu', 'tiny'
        )
        Paths = ''
    }
    'tokenizer settings' = @{
        Words = @(
            'model.image_height=', 'model.image_width=', 'model.patch_size=', 'model.pixel_encoder=',
            'model.cnn_channels=', 'model.cnn_multipliers=', 'model.cnn_norm_groups=', 'model.cnn_shortcut=',
            'model.feature_channels=', 'model.encoder_width=', 'model.encoder_layers=', 'model.decoder_width=',
            'model.decoder_layers=', 'model.head_width=', 'model.num_stages=', 'model.merge_factor=', 'model.merge=',
            'model.residual_image_tokens=', 'model.num_latent_tokens=', 'model.latent_init=',
            'model.residual_latent_tokens=', 'model.latent_layout=', 'model.head_per_level=', 'model.image_queries=',
            'model.codebook_size=', 'model.codebook_dim=', 'model.normalize_codes=', 'model.encoder_alignment_dim=',
            'model.decoder_alignment_dim=', 'data.crop=', 'data.random_zoom=', 'data.random_crop_area=',
            'data.random_flip=', 'data.num_workers=', 'data.broken_limit=', 'data.max_member_bytes=',
            'optimizer.schedule=', 'optimizer.learning_rate=', 'optimizer.final_learning_rate=',
            'optimizer.warmup_steps=', 'optimizer.decay_steps=', 'optimizer.beta1=', 'optimizer.beta2=',
            'optimizer.weight_decay=', 'optimizer.max_grad_norm=', 'schedule.max_steps=', 'schedule.batch_size=',
            'schedule.micro_batch_size=', 'schedule.seed=', 'schedule.ema_decay=', 'schedule.log_every=',
            'schedule.preview_every=', 'schedule.validate_every=', 'schedule.validation_images=',
            'schedule.save_every=', 'schedule.keep_checkpoints=', 'schedule.keep_every=', 'schedule.early_stop=',
            'schedule.initial_convolutions=', 'loss.reconstruction=', 'loss.reconstruction_weight=',
            'loss.quantizer_weight=', 'loss.entropy_weight=', 'loss.perceptual_weight=', 'loss.lpips_weights=',
            'alignment.encoder_weight=', 'alignment.decoder_weight=', 'alignment.margin=', 'alignment.teacher=',
            'alignment.weights=', 'discriminator.weight=', 'discriminator.start_step=', 'discriminator.kind=',
            'discriminator.weights=', 'discriminator.augment_probability=', 'discriminator.augment_range=',
            'discriminator.lecam_weight=', 'discriminator.lecam_decay=', 'discriminator.optimizer.schedule=',
            'discriminator.optimizer.learning_rate=', 'discriminator.optimizer.final_learning_rate=',
            'discriminator.optimizer.warmup_steps=', 'discriminator.optimizer.decay_steps=',
            'discriminator.optimizer.beta1=', 'discriminator.optimizer.beta2=', 'discriminator.optimizer.weight_decay=',
            'discriminator.optimizer.max_grad_norm=', 'nested_dropout.probability=', 'nested_dropout.min_tokens=',
            'revival.every=', 'revival.until=', 'compute.precision=', 'compute.compile=', 'compute.memory=',
            'compute.deterministic=', 'health.max_skipped_steps=', 'health.warn_data_wait=',
            'health.warn_codebook_usage='
        )
        Paths = ''
    }
    'tokenizer|generator' = @{
        Words = @(
            'tokenizer', 'generator'
        )
        Paths = ''
    }
    'tokenizer|har' = @{
        Words = @(
            'tokenizer', 'har'
        )
        Paths = ''
    }
    'trackers' = @{
        Words = @(
            'tensorboard', 'wandb', 'trackio'
        )
        Paths = ''
    }
    'validation|train' = @{
        Words = @(
            'validation', 'train'
        )
        Paths = ''
    }
    'validation|train|all' = @{
        Words = @(
            'validation', 'train', 'all'
        )
        Paths = ''
    }
    'ways to draw' = @{
        Words = @(
            'paper', 'sample'
        )
        Paths = 'files'
    }
}

# What each command has; Others is the kind of all arguments after those listed.
$global:restokCommands = @{
    'restok' = @{
        Commands = [ordered]@{
            'prepare' = 'Make a data set: tar shards, indexed and hashed, that training reads in an exact order'
            'train-tokenizer' = 'Train a tokenizer: images to codes in coarse-to-fine levels, and back'
            'train-har' = 'Train a HAR generator, which draws the codes of an image level by level: 9 steps for …'
            'reconstruct' = 'Encode images to codes, decode them, and say how near they come (PSNR)'
            'generate' = 'Draw images: each in 9 steps where an autoregressive model would take 128'
            'encode' = 'Turn images into codes: 128 numbers each, or as many as the tokenizer makes'
            'decode' = 'Turn codes into images: all codes of each, or a prefix of them, which gives a coarser …'
            'evaluate' = 'Measure images (FID, IS, precision, recall, KID, PSNR, SSIM, …) and codes'
            'probe' = 'Say how well frozen features tell classes apart, by a linear probe and by nearest …'
            'tune' = 'Find the guidance and temperature that suit a generator'
            'curves' = 'Draw what runs have logged over their steps: a panel for each number, a line in it for …'
            'report' = 'Make one HTML file of runs: curves, previews, the codebook, metrics, config and …'
            'demo' = 'Run every command once, on the emoji that come with restok: five minutes on two CPU …'
            'bench' = 'Measure encoding, decoding, drawing, training, loading and Inception here'
            'doctor' = 'Say whether this machine has what restok needs, and what to do where it has not. …'
            'models' = 'List presets and models; show, verify, convert, describe or publish one'
            'config' = 'Suggest, show, compare and check the settings of runs'
            'plan' = 'Say what a run will take: memory, arithmetic, time, energy, money, disk'
        }
        Options = [ordered]@{
            '--version' = @{ Kind = 'nothing'; Count = 0; Help = 'Print the version and leave' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = ''
    }
    'restok prepare' = @{
        Commands = [ordered]@{
            'imagenet' = 'Make a data set from ImageNet-1k, in any of its usual forms'
            'folder' = 'Make a data set from a folder of images'
            'shards' = 'Make a data set of WebDataset shards, which stay where they are'
            'codes' = 'Encode every image of a data set once, to train generators on codes alone'
            'verify' = 'Read a data set, or the codes of one, and say whether it is what was prepared'
            'sample' = 'Write out the data set that comes with restok, of 1,906 emoji'
        }
        Options = [ordered]@{
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = ''
    }
    'restok prepare imagenet' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--test-as-validation' = @{ Kind = 'nothing'; Count = 0; Help = 'Validate on the test split, where there is none for validation' }
            '--resize' = @{ Kind = 'nothing'; Count = 1; Help = 'Shrink images whose shorter edge is longer than this. JPEG stays JPEG; others become …' }
            '--max-pixels' = @{ Kind = 'nothing'; Count = 1; Help = 'Shrink images of more pixels than this to so many' }
            '--max-decoded-pixels' = @{ Kind = 'nothing'; Count = 1; Help = 'Images of more pixels than this are left out, since they may fill all memory. Default: …' }
            '--max-member-bytes' = @{ Kind = 'nothing'; Count = 1; Help = 'Image files, and files in tars, of more bytes than this are left out unread. Default: …' }
            '--check' = @{ Kind = 'quick|full'; Count = 1; Help = 'How to look for broken images: quick reads structure (no image, cut short, PNG …' }
            '--samples-per-shard' = @{ Kind = 'nothing'; Count = 1; Help = 'Images in a shard' }
            '--jobs' = @{ Kind = 'nothing'; Count = 1; Help = 'Processes to work with; the result is the same. Default: one per core' }
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace the data set that OUT already holds' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print the counts as one JSON object instead of OUT' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('folders', 'files')
        Others = ''
    }
    'restok prepare folder' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--validation-fraction' = @{ Kind = 'nothing'; Count = 1; Help = 'The part of each class to validate on, where DIR has no validation split of its own' }
            '--test-as-validation' = @{ Kind = 'nothing'; Count = 0; Help = 'Validate on the test split, where there is none for validation' }
            '--resize' = @{ Kind = 'nothing'; Count = 1; Help = 'Shrink images whose shorter edge is longer than this. JPEG stays JPEG; others become …' }
            '--max-pixels' = @{ Kind = 'nothing'; Count = 1; Help = 'Shrink images of more pixels than this to so many' }
            '--max-decoded-pixels' = @{ Kind = 'nothing'; Count = 1; Help = 'Images of more pixels than this are left out, since they may fill all memory. Default: …' }
            '--max-member-bytes' = @{ Kind = 'nothing'; Count = 1; Help = 'Image files, and files in tars, of more bytes than this are left out unread. Default: …' }
            '--check' = @{ Kind = 'quick|full'; Count = 1; Help = 'How to look for broken images: quick reads structure (no image, cut short, PNG …' }
            '--samples-per-shard' = @{ Kind = 'nothing'; Count = 1; Help = 'Images in a shard' }
            '--jobs' = @{ Kind = 'nothing'; Count = 1; Help = 'Processes to work with; the result is the same. Default: one per core' }
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace the data set that OUT already holds' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print the counts as one JSON object instead of OUT' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('folders', 'files')
        Others = ''
    }
    'restok prepare shards' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--class-names' = @{ Kind = 'class names'; Count = 1; Help = 'What the classes are called: a file with a line for each, or the word imagenet. …' }
            '--num-classes' = @{ Kind = 'nothing'; Count = 1; Help = 'How many classes there are, called by numbers; 0: none. Default: what the .cls say, …' }
            '--check' = @{ Kind = 'quick|full'; Count = 1; Help = 'How to look for broken images: quick reads structure (no image, cut short, PNG …' }
            '--max-decoded-pixels' = @{ Kind = 'nothing'; Count = 1; Help = 'Images of more pixels than this are left out, since they may fill all memory. Default: …' }
            '--max-member-bytes' = @{ Kind = 'nothing'; Count = 1; Help = 'Image files, and files in tars, of more bytes than this are left out unread. Default: …' }
            '--jobs' = @{ Kind = 'nothing'; Count = 1; Help = 'Processes to work with; the result is the same. Default: one per core' }
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace the data set that OUT already holds' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print the counts as one JSON object instead of OUT' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = 'files'
    }
    'restok prepare codes' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--tokenizer' = @{ Kind = 'models'; Count = 1; Help = 'The tokenizer to encode with' }
            '--views' = @{ Kind = 'ten-crop|flip|centre'; Count = 1; Help = 'What is encoded of a training image; of validation it is always the centre' }
            '--batch-size' = @{ Kind = 'nothing'; Count = 1; Help = 'Views that are encoded at a time' }
            '--num-workers' = @{ Kind = 'nothing'; Count = 1; Help = 'Processes that decode images beside each one that encodes' }
            '--max-member-bytes' = @{ Kind = 'nothing'; Count = 1; Help = 'Image files, and files in tars, of more bytes than this are left out unread. Default: …' }
            '--num-processes' = @{ Kind = 'auto'; Count = 1; Help = 'Processes that share the work; auto: one per GPU' }
            '--device' = @{ Kind = 'devices'; Count = 1; Help = 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps' }
            '--dtype' = @{ Kind = 'auto|float32|bf16'; Count = 1; Help = 'Precision of the model; auto: bf16 on a GPU, float32 on a CPU (some are faster in bf16)' }
            '--deterministic' = @{ Kind = 'nothing'; Count = 0; Help = 'Compute the same bits each time on a GPU, too, for batches of one size: slower' }
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace the codes that OUT already holds' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of OUT' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('data', 'files')
        Others = ''
    }
    'restok prepare verify' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--jobs' = @{ Kind = 'nothing'; Count = 1; Help = 'Processes to work with; the result is the same. Default: one per core' }
            '--max-member-bytes' = @{ Kind = 'nothing'; Count = 1; Help = 'Image files, and files in tars, of more bytes than this are left out unread. Default: …' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of lines' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('data')
        Others = ''
    }
    'restok prepare sample' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace the data set that OUT already holds' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print the counts as one JSON object instead of OUT' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('files')
        Others = ''
    }
    'restok train-tokenizer' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--output' = @{ Kind = 'nothing'; Count = 1; Help = 'The folder of the run' }
            '-o' = @{ Kind = 'nothing'; Count = 1; Help = 'The folder of the run' }
            '--preset' = @{ Kind = 'tokenizer presets'; Count = 1; Help = 'What to build and how to train it; `restok models` lists them. Default: sample, or the …' }
            '--config' = @{ Kind = 'nothing'; Count = 1; Help = 'Settings over the preset''s: YAML, or a run whose settings to take' }
            '--set' = @{ Kind = 'tokenizer settings'; Count = 1; Help = 'One setting, such as schedule.seed=3; repeatable' }
            '--max-steps' = @{ Kind = 'nothing'; Count = 1; Help = 'Optimizer steps of the whole run. Default: the preset''s' }
            '--batch-size' = @{ Kind = 'nothing'; Count = 1; Help = 'Images per step. Default: the preset''s' }
            '--seed' = @{ Kind = 'nothing'; Count = 1; Help = 'Decides everything random. Default: the preset''s' }
            '--image-size' = @{ Kind = 'nothing'; Count = 1; Help = 'Pixels of an image, such as 128 or 128x96 (width x height). Default: the preset''s' }
            '--init' = @{ Kind = 'models'; Count = 1; Help = 'Start from the weights of this model: a folder, a run, hf:owner/name, sample or photo' }
            '--early-stop' = @{ Kind = 'nothing'; Count = 1; Help = 'End after N validations in a row without a better one; the best is kept' }
            '--stop-at' = @{ Kind = 'nothing'; Count = 1; Help = 'Save and end after this step, as if interrupted; --resume goes on' }
            '--track' = @{ Kind = 'trackers'; Count = 1; Help = 'Also log to tensorboard, wandb or trackio; repeatable' }
            '--allow-pipe' = @{ Kind = 'nothing'; Count = 0; Help = 'Run the shell commands (pipe:) that DATA names for its shards' }
            '--num-processes' = @{ Kind = 'auto'; Count = 1; Help = 'Processes that share the work; auto: one per GPU' }
            '--dry-run' = @{ Kind = 'nothing'; Count = 0; Help = 'Try a step of everything, print what the run will take, and train nothing' }
            '--skip-preflight' = @{ Kind = 'nothing'; Count = 0; Help = 'Start at once, without trying a step of everything first' }
            '--resume' = @{ Kind = 'nothing'; Count = 0; Help = 'Go on exactly where the run in RUN stopped' }
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace what the output folder already holds' }
            '--device' = @{ Kind = 'devices'; Count = 1; Help = 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('data')
        Others = ''
    }
    'restok train-har' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--tokenizer' = @{ Kind = 'models'; Count = 1; Help = 'A tokenizer: a run of train-tokenizer, its model folder, sample or photo' }
            '--output' = @{ Kind = 'nothing'; Count = 1; Help = 'The folder of the run' }
            '-o' = @{ Kind = 'nothing'; Count = 1; Help = 'The folder of the run' }
            '--preset' = @{ Kind = 'har presets'; Count = 1; Help = 'What to build and how to train it; `restok models` lists them. Default: sample, or the …' }
            '--config' = @{ Kind = 'nothing'; Count = 1; Help = 'Settings over the preset''s: YAML, or a run whose settings to take' }
            '--set' = @{ Kind = 'har settings'; Count = 1; Help = 'One setting, such as schedule.seed=3; repeatable' }
            '--max-steps' = @{ Kind = 'nothing'; Count = 1; Help = 'Optimizer steps of the whole run. Default: the preset''s' }
            '--batch-size' = @{ Kind = 'nothing'; Count = 1; Help = 'Images per step. Default: the preset''s' }
            '--seed' = @{ Kind = 'nothing'; Count = 1; Help = 'Decides everything random. Default: the preset''s' }
            '--image-size' = @{ Kind = 'nothing'; Count = 1; Help = 'Pixels of an image, such as 128 or 128x96 (width x height). Default: the preset''s' }
            '--init' = @{ Kind = 'models'; Count = 1; Help = 'Start from the weights of this model: a folder, a run, hf:owner/name, sample or photo' }
            '--early-stop' = @{ Kind = 'nothing'; Count = 1; Help = 'End after N validations in a row without a better one; the best is kept' }
            '--stop-at' = @{ Kind = 'nothing'; Count = 1; Help = 'Save and end after this step, as if interrupted; --resume goes on' }
            '--track' = @{ Kind = 'trackers'; Count = 1; Help = 'Also log to tensorboard, wandb or trackio; repeatable' }
            '--allow-pipe' = @{ Kind = 'nothing'; Count = 0; Help = 'Run the shell commands (pipe:) that DATA names for its shards' }
            '--num-processes' = @{ Kind = 'auto'; Count = 1; Help = 'Processes that share the work; auto: one per GPU' }
            '--dry-run' = @{ Kind = 'nothing'; Count = 0; Help = 'Try a step of everything, print what the run will take, and train nothing' }
            '--skip-preflight' = @{ Kind = 'nothing'; Count = 0; Help = 'Start at once, without trying a step of everything first' }
            '--resume' = @{ Kind = 'nothing'; Count = 0; Help = 'Go on exactly where the run in RUN stopped' }
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace what the output folder already holds' }
            '--device' = @{ Kind = 'devices'; Count = 1; Help = 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('data')
        Others = ''
    }
    'restok reconstruct' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--model' = @{ Kind = 'models'; Count = 1; Help = 'A tokenizer, or a generator with its tokenizer; photo suits photographs' }
            '--output' = @{ Kind = 'files'; Count = 1; Help = 'A folder, a .png for one image, or - (a tar stream)' }
            '-o' = @{ Kind = 'files'; Count = 1; Help = 'A folder, a .png for one image, or - (a tar stream)' }
            '--num-codes' = @{ Kind = 'nothing'; Count = 1; Help = 'Decode the first N codes only: coarser; several: each. Default: all' }
            '--split' = @{ Kind = 'validation|train'; Count = 1; Help = 'The split to take of a data set' }
            '--no-crop' = @{ Kind = 'nothing'; Count = 0; Help = 'Take images at their own size, which the model was not trained on' }
            '--max-decoded-pixels' = @{ Kind = 'nothing'; Count = 1; Help = 'Images of more pixels than this are left out, since they may fill all memory. Default: …' }
            '--max-member-bytes' = @{ Kind = 'nothing'; Count = 1; Help = 'Image files, and files in tars, of more bytes than this are left out unread. Default: …' }
            '--grid' = @{ Kind = 'files'; Count = 1; Help = 'Also write a PNG: images beside what is made of them' }
            '--ladder' = @{ Kind = 'files'; Count = 1; Help = 'The same with every level, and what each adds' }
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace what the output folder already holds' }
            '--num-processes' = @{ Kind = 'auto'; Count = 1; Help = 'Processes that share the work; auto: one per GPU' }
            '--batch-size' = @{ Kind = 'auto'; Count = 1; Help = 'Images at a time; auto: what the device holds' }
            '--device' = @{ Kind = 'devices'; Count = 1; Help = 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps' }
            '--dtype' = @{ Kind = 'auto|float32|bf16'; Count = 1; Help = 'Precision of the model; auto: bf16 on a GPU, float32 on a CPU (some are faster in bf16)' }
            '--deterministic' = @{ Kind = 'nothing'; Count = 0; Help = 'Compute the same bits each time on a GPU, too, for batches of one size: slower' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of the path' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = 'pictures'
    }
    'restok generate' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--model' = @{ Kind = 'models'; Count = 1; Help = 'A generator: a run of train-har, or its model folder' }
            '--steps' = @{ Kind = 'nothing'; Count = 1; Help = 'Sampling steps; fewer than all stop at a coarser level. Default: all' }
            '--count' = @{ Kind = 'nothing'; Count = 1; Help = 'How many images' }
            '--class' = @{ Kind = 'classes'; Count = 1; Help = 'A class by name, number or synset, all, or random; may be repeated. Default: all in …' }
            '--like' = @{ Kind = 'nothing'; Count = 1; Help = 'Keep the first codes of this image and draw the rest; --keep says how many' }
            '--keep' = @{ Kind = 'nothing'; Count = 1; Help = 'How many codes of --like to keep: of few, its layout alone' }
            '--seed' = @{ Kind = 'nothing'; Count = 1; Help = 'Decides everything random: the same seed gives the same result' }
            '--preset' = @{ Kind = 'ways to draw'; Count = 1; Help = 'paper, its guidance (3.75, step from 0.25, top-p 0.95); sample, what suits the model …' }
            '--cfg-scale' = @{ Kind = 'nothing'; Count = 1; Help = 'Classifier-free guidance; 1 = none' }
            '--cfg-schedule' = @{ Kind = 'constant|linear|linear-reversed|linear-constant|triangular|rectangular|step|cosine|cosine-reversed'; Count = 1; Help = 'How guidance goes from 1 to its scale, or back, over the steps' }
            '--cfg-start' = @{ Kind = 'nothing'; Count = 1; Help = 'Where step and rectangular begin' }
            '--cfg-stop' = @{ Kind = 'nothing'; Count = 1; Help = 'Where rectangular ends' }
            '--cfg-peak' = @{ Kind = 'nothing'; Count = 1; Help = 'Where triangular and linear-constant are at their scale' }
            '--temperature' = @{ Kind = 'nothing'; Count = 1; Help = 'Below 1: safer, 0: always the likeliest code' }
            '--greedy' = @{ Kind = 'nothing'; Count = 0; Help = 'Always the likeliest code: --temperature 0' }
            '--top-k' = @{ Kind = 'nothing'; Count = 1; Help = 'Draw from the K likeliest codes; 0 = all' }
            '--top-p' = @{ Kind = 'nothing'; Count = 1; Help = 'Draw from the likeliest codes that reach P' }
            '--tokenizer' = @{ Kind = 'models'; Count = 1; Help = 'Decode with this copy of the generator''s tokenizer' }
            '--output' = @{ Kind = 'nothing'; Count = 1; Help = 'A folder for PNG files, a .png for one image, an .npz, or - (a tar stream)' }
            '-o' = @{ Kind = 'nothing'; Count = 1; Help = 'A folder for PNG files, a .png for one image, an .npz, or - (a tar stream)' }
            '--grid' = @{ Kind = 'nothing'; Count = 1; Help = 'Also write all images as one captioned PNG' }
            '--ladder' = @{ Kind = 'nothing'; Count = 1; Help = 'Also write a PNG of the first 8 growing level by level; with --like, of ever more …' }
            '--shards' = @{ Kind = 'nothing'; Count = 0; Help = 'Make OUT a data set of tar shards, as prepare does' }
            '--codes' = @{ Kind = 'nothing'; Count = 0; Help = 'Only draw codes, to an .npz, .safetensors or .jsonl file, or - (lines)' }
            '--resume' = @{ Kind = 'nothing'; Count = 0; Help = 'Go on where this command stopped; a higher --count draws more beside what is there' }
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace what the output folder already holds' }
            '--num-processes' = @{ Kind = 'auto'; Count = 1; Help = 'Processes that share the work; auto: one per GPU' }
            '--compile' = @{ Kind = 'auto|on|off'; Count = 1; Help = 'Compile the models first, for thousands of images; auto: on a GPU where the compiler …' }
            '--batch-size' = @{ Kind = 'auto'; Count = 1; Help = 'Images at a time; auto: what the device holds' }
            '--device' = @{ Kind = 'devices'; Count = 1; Help = 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps' }
            '--dtype' = @{ Kind = 'auto|float32|bf16'; Count = 1; Help = 'Precision of the model; auto: bf16 on a GPU, float32 on a CPU (some are faster in bf16)' }
            '--deterministic' = @{ Kind = 'nothing'; Count = 0; Help = 'Compute the same bits each time on a GPU, too, for batches of one size: slower' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of the path' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = ''
    }
    'restok encode' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--model' = @{ Kind = 'models'; Count = 1; Help = 'A tokenizer, or a generator with its tokenizer; photo suits photographs' }
            '--output' = @{ Kind = 'files'; Count = 1; Help = 'An .npz, .safetensors or .jsonl file, or - (lines)' }
            '-o' = @{ Kind = 'files'; Count = 1; Help = 'An .npz, .safetensors or .jsonl file, or - (lines)' }
            '--split' = @{ Kind = 'validation|train'; Count = 1; Help = 'The split to take of a data set' }
            '--no-crop' = @{ Kind = 'nothing'; Count = 0; Help = 'Take images at their own size, which the model was not trained on' }
            '--max-decoded-pixels' = @{ Kind = 'nothing'; Count = 1; Help = 'Images of more pixels than this are left out, since they may fill all memory. Default: …' }
            '--max-member-bytes' = @{ Kind = 'nothing'; Count = 1; Help = 'Image files, and files in tars, of more bytes than this are left out unread. Default: …' }
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace the output file where it is there already' }
            '--num-processes' = @{ Kind = 'auto'; Count = 1; Help = 'Processes that share the work; auto: one per GPU' }
            '--batch-size' = @{ Kind = 'auto'; Count = 1; Help = 'Images at a time; auto: what the device holds' }
            '--device' = @{ Kind = 'devices'; Count = 1; Help = 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps' }
            '--dtype' = @{ Kind = 'auto|float32|bf16'; Count = 1; Help = 'Precision of the model; auto: bf16 on a GPU, float32 on a CPU (some are faster in bf16)' }
            '--deterministic' = @{ Kind = 'nothing'; Count = 0; Help = 'Compute the same bits each time on a GPU, too, for batches of one size: slower' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of the path' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = 'pictures'
    }
    'restok decode' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--model' = @{ Kind = 'models'; Count = 1; Help = 'A tokenizer, or a generator with its tokenizer; photo suits photographs' }
            '--output' = @{ Kind = 'files'; Count = 1; Help = 'A folder, a .png for one image, or - (a tar stream on stdout)' }
            '-o' = @{ Kind = 'files'; Count = 1; Help = 'A folder, a .png for one image, or - (a tar stream on stdout)' }
            '--num-codes' = @{ Kind = 'nothing'; Count = 1; Help = 'Decode the first N codes only: coarser. Default: all' }
            '--mix' = @{ Kind = 'files'; Count = 2; Help = 'In place of CODES: the first --keep codes of A with the rest of B''s. Each is an image, …' }
            '--keep' = @{ Kind = 'nothing'; Count = 1; Help = 'How many codes of A --mix takes' }
            '--grid' = @{ Kind = 'files'; Count = 1; Help = 'Also write a PNG of the first 64' }
            '--ladder' = @{ Kind = 'files'; Count = 1; Help = 'Also write a PNG of the first 8 growing level by level; of --mix, with ever more codes …' }
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace what the output folder already holds' }
            '--batch-size' = @{ Kind = 'auto'; Count = 1; Help = 'Images at a time; auto: what the device holds' }
            '--device' = @{ Kind = 'devices'; Count = 1; Help = 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps' }
            '--dtype' = @{ Kind = 'auto|float32|bf16'; Count = 1; Help = 'Precision of the model; auto: bf16 on a GPU, float32 on a CPU (some are faster in bf16)' }
            '--deterministic' = @{ Kind = 'nothing'; Count = 0; Help = 'Compute the same bits each time on a GPU, too, for batches of one size: slower' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of the path' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = 'files'
    }
    'restok evaluate' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--metric' = @{ Kind = 'metric'; Count = 1; Help = 'One of gfid, rfid, fid, fid-inf, pfid, sfid, is, precision, recall, kid, density, …' }
            '--reference' = @{ Kind = 'pictures'; Count = 1; Help = 'What to compare with: the same forms, statistics (.npz: mu, sigma), or a name --make- …' }
            '--split' = @{ Kind = 'validation|train|all'; Count = 1; Help = 'The split to take where a data set is given' }
            '--crop' = @{ Kind = 'nothing'; Count = 1; Help = 'First give SAMPLES the ADM centre crop to this size' }
            '--max-decoded-pixels' = @{ Kind = 'nothing'; Count = 1; Help = 'Images of more pixels than this are left out, since they may fill all memory. Default: …' }
            '--max-member-bytes' = @{ Kind = 'nothing'; Count = 1; Help = 'Image files, and files in tars, of more bytes than this are left out unread. Default: …' }
            '--model' = @{ Kind = 'models'; Count = 1; Help = 'The tokenizer that makes codes of images (codebook, --num-codes, --perturb); for nll …' }
            '--num-codes' = @{ Kind = 'all'; Count = 1; Help = 'Measure what the first N codes give back of SAMPLES, for each N; all: every level' }
            '--perturb' = @{ Kind = 'nothing'; Count = 1; Help = 'Measure pfid: SAMPLES against what --model decodes once this share α of their codes …' }
            '--nearest' = @{ Kind = 'nothing'; Count = 1; Help = 'With --perturb: δ, of how many codewords nearest to a code one replaces it' }
            '--per-image' = @{ Kind = 'nothing'; Count = 0; Help = 'With --json: also each image''s value (psnr, …); --compare then goes by pairs' }
            '--features' = @{ Kind = 'networks'; Count = 1; Help = 'Behind the metrics of features: inception (the default), dinov2, clip, vgg16, …' }
            '--inception-weights' = @{ Kind = 'nothing'; Count = 1; Help = 'Inception''s. Default: torch''s cache, or download' }
            '--vgg-weights' = @{ Kind = 'nothing'; Count = 1; Help = 'VGG-16''s, of lpips and vgg16' }
            '--timm-weights' = @{ Kind = 'nothing'; Count = 1; Help = 'Of dinov2, clip or timm:NAME; of several networks, repeated in the order of their …' }
            '--cache' = @{ Kind = 'nothing'; Count = 1; Help = 'Where features and references are kept. Default: restok in $XDG_CACHE_HOME, ~/.cache' }
            '--no-cache' = @{ Kind = 'nothing'; Count = 0; Help = 'Neither look features up nor keep them' }
            '--batch-size' = @{ Kind = 'nothing'; Count = 1; Help = 'Images held at a time; changes speed and memory, not results' }
            '--plot' = @{ Kind = 'files'; Count = 1; Help = 'With --num-codes: draw metric against codes (PNG, PDF, SVG)' }
            '--fail-under' = @{ Kind = 'limits'; Count = 1; Help = 'Exit 4 where a metric is worse (may be repeated): below VALUE, or above it where lower …' }
            '--compare' = @{ Kind = 'files'; Count = 2; Help = 'Say of two --json results whether B is better, worse or, by 95 %, neither; measures …' }
            '--runs' = @{ Kind = 'nothing'; Count = 0; Help = 'SAMPLES are --json results of several runs with other seeds; measures nothing' }
            '--make-reference' = @{ Kind = 'pictures'; Count = 1; Help = 'Make statistics of images for --reference instead; they go to -o' }
            '--output' = @{ Kind = 'files'; Count = 1; Help = 'With --make-reference: an .npz, or a name for the cache' }
            '-o' = @{ Kind = 'files'; Count = 1; Help = 'With --make-reference: an .npz, or a name for the cache' }
            '--reference-images' = @{ Kind = 'nothing'; Count = 1; Help = 'With --make-reference: images to keep, for precision, recall and kid' }
            '--num-processes' = @{ Kind = 'auto'; Count = 1; Help = 'Processes that share the work; auto: one per GPU' }
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace the output file where it is there already' }
            '--device' = @{ Kind = 'devices'; Count = 1; Help = 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object with the protocol instead of a table' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = 'pictures'
    }
    'restok probe' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--part' = @{ Kind = 'tokenizer|generator'; Count = 1; Help = 'Which of a generator with its tokenizer. Default: the generator, where there is one' }
            '--block' = @{ Kind = 'all'; Count = 1; Help = 'Of a generator: the block after which features are taken, or all (without levels). …' }
            '--tokenizer' = @{ Kind = 'models'; Count = 1; Help = 'The tokenizer of a generator that has none with it' }
            '--l2' = @{ Kind = 'auto'; Count = 1; Help = 'Strength of the regression''s regularisation; auto: chosen by a fifth of the training …' }
            '--neighbours' = @{ Kind = 'nothing'; Count = 1; Help = 'Nearest training images that vote' }
            '--cache' = @{ Kind = 'folders'; Count = 1; Help = 'Where features and references are kept. Default: restok in $XDG_CACHE_HOME, ~/.cache' }
            '--no-cache' = @{ Kind = 'nothing'; Count = 0; Help = 'Neither look features up nor keep them' }
            '--batch-size' = @{ Kind = 'nothing'; Count = 1; Help = 'Images held at a time; changes speed and memory, not results' }
            '--num-processes' = @{ Kind = 'auto'; Count = 1; Help = 'Processes that share the work; auto: one per GPU' }
            '--device' = @{ Kind = 'devices'; Count = 1; Help = 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object with the protocol instead of a table' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('models', 'data')
        Others = ''
    }
    'restok tune' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--metric' = @{ Kind = 'metric of sets'; Count = 1; Help = 'What to search by: one of gfid, fid, fid-inf, sfid, is, precision, recall, kid, …' }
            '--reference' = @{ Kind = 'pictures'; Count = 1; Help = 'What to compare with, as evaluate takes it. Default for the sample model: the emoji it …' }
            '--split' = @{ Kind = 'validation|train|all'; Count = 1; Help = 'The split to take where a data set is given' }
            '--features' = @{ Kind = 'networks'; Count = 1; Help = 'Behind the metric: inception, dinov2, clip, vgg16, timm:NAME, or random, for smoke …' }
            '--inception-weights' = @{ Kind = 'nothing'; Count = 1; Help = 'Inception''s. Default: torch''s cache, or download' }
            '--vgg-weights' = @{ Kind = 'nothing'; Count = 1; Help = 'VGG-16''s, of lpips and vgg16' }
            '--timm-weights' = @{ Kind = 'nothing'; Count = 1; Help = 'Of dinov2, clip or timm:NAME' }
            '--cache' = @{ Kind = 'nothing'; Count = 1; Help = 'Where features and references are kept. Default: restok in $XDG_CACHE_HOME, ~/.cache' }
            '--space' = @{ Kind = 'files'; Count = 1; Help = 'YAML of the values to try, such as `cfg_scale: [1, 1.5, 2]`' }
            '--try' = @{ Kind = 'options to try'; Count = 1; Help = 'Values to try of cfg_scale, cfg_schedule, cfg_start, cfg_stop, cfg_peak, temperature, …' }
            '--first' = @{ Kind = 'nothing'; Count = 1; Help = 'Images of each candidate at first' }
            '--images' = @{ Kind = 'nothing'; Count = 1; Help = 'Images of each in the last round, and on fresh seeds' }
            '--class' = @{ Kind = 'classes'; Count = 1; Help = 'As generate takes it. Default: random, of all classes' }
            '--steps' = @{ Kind = 'nothing'; Count = 1; Help = 'Sampling steps; fewer than all stop at a coarser level. Default: all' }
            '--seed' = @{ Kind = 'nothing'; Count = 1; Help = 'Decides everything random: the same seed gives the same result' }
            '--tokenizer' = @{ Kind = 'models'; Count = 1; Help = 'Decode with this copy of the generator''s tokenizer' }
            '--output' = @{ Kind = 'folders'; Count = 1; Help = 'The folder for what is drawn and found' }
            '-o' = @{ Kind = 'folders'; Count = 1; Help = 'The folder for what is drawn and found' }
            '--plot' = @{ Kind = 'files'; Count = 1; Help = 'Draw the metric against the Inception Score (PNG, PDF, SVG)' }
            '--num-processes' = @{ Kind = 'auto'; Count = 1; Help = 'Processes that share the work; auto: one per GPU' }
            '--resume' = @{ Kind = 'nothing'; Count = 0; Help = 'Take what DIR holds, also for other values, metrics, references, more images' }
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace what the output folder already holds' }
            '--batch-size' = @{ Kind = 'auto'; Count = 1; Help = 'Images at a time; auto: what the device holds' }
            '--device' = @{ Kind = 'devices'; Count = 1; Help = 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps' }
            '--dtype' = @{ Kind = 'auto|float32|bf16'; Count = 1; Help = 'Precision of the model; auto: bf16 on a GPU, float32 on a CPU (some are faster in bf16)' }
            '--deterministic' = @{ Kind = 'nothing'; Count = 0; Help = 'Compute the same bits each time on a GPU, too, for batches of one size: slower' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object with the protocol instead of a table' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('models')
        Others = ''
    }
    'restok curves' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--output' = @{ Kind = 'files'; Count = 1; Help = 'The PNG to make' }
            '-o' = @{ Kind = 'files'; Count = 1; Help = 'The PNG to make' }
            '--metric' = @{ Kind = 'nothing'; Count = 1; Help = 'Draw this one, such as validation_psnr; repeatable' }
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace the output file where it is there already' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = 'folders'
    }
    'restok report' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--output' = @{ Kind = 'files'; Count = 1; Help = 'The HTML file to make' }
            '-o' = @{ Kind = 'files'; Count = 1; Help = 'The HTML file to make' }
            '--metrics' = @{ Kind = 'files'; Count = 1; Help = 'What `restok evaluate … --json > FILE` wrote, beside those in the runs; repeatable' }
            '--watch' = @{ Kind = 'nothing'; Count = 0; Help = 'Make it anew every 30 s until the runs end; a browser follows by itself' }
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace the output file where it is there already' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = 'folders'
    }
    'restok demo' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--output' = @{ Kind = 'folders'; Count = 1; Help = 'The folder for all that is made' }
            '-o' = @{ Kind = 'folders'; Count = 1; Help = 'The folder for all that is made' }
            '--quick' = @{ Kind = 'nothing'; Count = 0; Help = 'A few steps, in one to two minutes: only to see that everything works' }
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace what the output folder already holds' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = ''
    }
    'restok bench' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--model' = @{ Kind = 'models'; Count = 1; Help = 'A model: a generator with its tokenizer, or a tokenizer. Default: random weights of …' }
            '--preset' = @{ Kind = 'tokenizer presets'; Count = 1; Help = 'The preset of the tokenizer, with random weights' }
            '--har' = @{ Kind = 'har presets'; Count = 1; Help = 'The preset of the generator' }
            '--what' = @{ Kind = 'parts'; Count = 1; Help = 'Some of encode,decode,generate,ar,train,loading,inception' }
            '--batch-size' = @{ Kind = 'nothing'; Count = 1; Help = 'Images at a time' }
            '--runs' = @{ Kind = 'nothing'; Count = 1; Help = 'Runs of each, after one to warm up' }
            '--compile' = @{ Kind = 'nothing'; Count = 0; Help = 'Also compiled, which takes a while' }
            '--device' = @{ Kind = 'devices'; Count = 1; Help = 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of lines' }
            '--markdown' = @{ Kind = 'nothing'; Count = 0; Help = 'Print a Markdown table' }
            '--plot' = @{ Kind = 'files'; Count = 1; Help = 'Also draw bars: .png, .svg or .pdf' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = ''
    }
    'restok doctor' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of lines' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = 'pictures'
    }
    'restok models' = @{
        Commands = [ordered]@{
            'presets' = 'List the presets of both trainers, or describe one: sizes, memory, what it needs, what …'
            'show' = 'Say what a model is: config, parameters, levels, fingerprint'
            'verify' = 'Read models from end to end: are they what was written?'
            'convert' = 'Write a model in the other layout: released from ours, ours from released. Prints OUT'
            'halve' = 'Write a model with its weights rounded to 16 bits: half the bytes. Prints OUT'
            'card' = 'Write the card of a model, its README.md, with metrics and licence. Prints it'
            'push' = 'Publish a model on the Hugging Face hub, with its card and a generator''s tokenizer. …'
        }
        Options = [ordered]@{
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of lines' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = ''
    }
    'restok models presets' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--kind' = @{ Kind = 'tokenizer|har'; Count = 1; Help = 'Only those of this trainer' }
            '--memory' = @{ Kind = 'nothing'; Count = 0; Help = 'Count the memory of a whole step of all of them, in some minutes' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of lines' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('presets')
        Others = ''
    }
    'restok models show' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of lines' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('models')
        Others = ''
    }
    'restok models verify' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of lines' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = 'files'
    }
    'restok models convert' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace what the output folder already holds' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('models', 'files')
        Others = ''
    }
    'restok models halve' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace what the output folder already holds' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('models', 'files')
        Others = ''
    }
    'restok models card' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--metrics' = @{ Kind = 'files'; Count = 1; Help = 'What `restok evaluate --json` said of the model, for the card; repeatable' }
            '--licence' = @{ Kind = 'nothing'; Count = 1; Help = 'Of the model, for the card, as the hub writes it: mit, …' }
            '--license' = @{ Kind = 'nothing'; Count = 1; Help = 'Of the model, for the card, as the hub writes it: mit, …' }
            '--overwrite' = @{ Kind = 'nothing'; Count = 0; Help = 'Replace a README.md that restok did not write, or that was edited' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('models')
        Others = ''
    }
    'restok models push' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--metrics' = @{ Kind = 'files'; Count = 1; Help = 'What `restok evaluate --json` said of the model, for the card; repeatable' }
            '--licence' = @{ Kind = 'nothing'; Count = 1; Help = 'Of the model, for the card, as the hub writes it: mit, …' }
            '--license' = @{ Kind = 'nothing'; Count = 1; Help = 'Of the model, for the card, as the hub writes it: mit, …' }
            '--private' = @{ Kind = 'nothing'; Count = 0; Help = 'Let nobody else see it, where it is new' }
            '--revision' = @{ Kind = 'nothing'; Count = 1; Help = 'The branch to put it on. Default: the hub''s, main' }
            '--dry-run' = @{ Kind = 'nothing'; Count = 0; Help = 'List what would go, and send nothing' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('models', 'nothing')
        Others = ''
    }
    'restok config' = @{
        Commands = [ordered]@{
            'suggest' = 'Look at a data set and at this machine, measure a few steps, and print one command to …'
            'show' = 'Print every setting; a comment says where one was stated that is no default'
            'diff' = 'Print the settings that differ between two, one a line'
            'validate' = 'Check a config file, and say which commands take it. The first mistake is named with …'
            'schema' = 'Print a JSON schema of config files, by which editors complete and check them'
        }
        Options = [ordered]@{
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = ''
    }
    'restok config suggest' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--kind' = @{ Kind = 'tokenizer|har'; Count = 1; Help = 'What to train' }
            '--image-size' = @{ Kind = 'nothing'; Count = 1; Help = 'Pixels of an image, such as 128 or 128x96 (width x height). Default: the preset''s' }
            '--minutes' = @{ Kind = 'nothing'; Count = 1; Help = 'How long the training may take' }
            '--memory' = @{ Kind = 'nothing'; Count = 1; Help = 'How much it may take. Default: all of the device''s' }
            '--device' = @{ Kind = 'devices'; Count = 1; Help = 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of lines' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('data')
        Others = ''
    }
    'restok config show' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--set' = @{ Kind = 'tokenizer and har settings'; Count = 1; Help = 'One setting, such as schedule.seed=3; repeatable' }
            '--kind' = @{ Kind = 'tokenizer|har'; Count = 1; Help = 'Whose config, where that is not clear' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of lines' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('configs')
        Others = ''
    }
    'restok config diff' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--kind' = @{ Kind = 'tokenizer|har'; Count = 1; Help = 'Whose config, where that is not clear' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of lines' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('configs', 'configs')
        Others = ''
    }
    'restok config validate' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--kind' = @{ Kind = 'tokenizer|har'; Count = 1; Help = 'Whose config, where that is not clear' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('files')
        Others = ''
    }
    'restok config schema' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @('tokenizer|har')
        Others = ''
    }
    'restok plan' = @{
        Commands = [ordered]@{
            'train-tokenizer' = 'Say what `restok train-tokenizer` with these settings will take'
            'train-har' = 'Say what `restok train-har` on cached codes with these settings will take'
            'generate' = 'Say what `restok generate` will take: all steps with guidance, and decoding'
            'encode' = 'Say what `restok encode`, or `restok prepare codes`, will take'
            'evaluate' = 'Say what Inception''s features of `restok evaluate` will take'
        }
        Options = [ordered]@{
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = ''
    }
    'restok plan train-tokenizer' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--preset' = @{ Kind = 'tokenizer presets'; Count = 1; Help = 'What to build and how to train it; `restok models` lists them. Default: sample, or the …' }
            '--config' = @{ Kind = 'files'; Count = 1; Help = 'Settings over the preset''s: YAML, or a run whose settings to take' }
            '--set' = @{ Kind = 'tokenizer settings'; Count = 1; Help = 'One setting, such as schedule.seed=3; repeatable' }
            '--max-steps' = @{ Kind = 'nothing'; Count = 1; Help = 'Optimizer steps of the whole run. Default: the preset''s' }
            '--batch-size' = @{ Kind = 'nothing'; Count = 1; Help = 'Images per step. Default: the preset''s' }
            '--gpu' = @{ Kind = 'h100|h200|a100|l40s|4090|3090|mi300x|cpu'; Count = 1; Help = 'The card to plan for; cpu: this machine''s, whose rates are measured now' }
            '--num-processes' = @{ Kind = 'auto'; Count = 1; Help = 'Cards that share the work' }
            '--price-per-hour' = @{ Kind = 'nothing'; Count = 1; Help = 'Price of a card and hour' }
            '--fit' = @{ Kind = 'nothing'; Count = 1; Help = 'Find settings for a card of this memory, such as 24GB or 80GiB' }
            '--choices' = @{ Kind = 'nothing'; Count = 0; Help = 'Also count what other settings would change' }
            '--no-choices' = @{ Kind = 'nothing'; Count = 0; Help = 'Also count what other settings would change' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of lines' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = ''
    }
    'restok plan train-har' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--preset' = @{ Kind = 'har presets'; Count = 1; Help = 'What to build and how to train it; `restok models` lists them. Default: sample, or the …' }
            '--config' = @{ Kind = 'files'; Count = 1; Help = 'Settings over the preset''s: YAML, or a run whose settings to take' }
            '--set' = @{ Kind = 'har settings'; Count = 1; Help = 'One setting, such as schedule.seed=3; repeatable' }
            '--max-steps' = @{ Kind = 'nothing'; Count = 1; Help = 'Optimizer steps of the whole run. Default: the preset''s' }
            '--batch-size' = @{ Kind = 'nothing'; Count = 1; Help = 'Images per step. Default: the preset''s' }
            '--gpu' = @{ Kind = 'h100|h200|a100|l40s|4090|3090|mi300x|cpu'; Count = 1; Help = 'The card to plan for; cpu: this machine''s, whose rates are measured now' }
            '--num-processes' = @{ Kind = 'auto'; Count = 1; Help = 'Cards that share the work' }
            '--price-per-hour' = @{ Kind = 'nothing'; Count = 1; Help = 'Price of a card and hour' }
            '--fit' = @{ Kind = 'nothing'; Count = 1; Help = 'Find settings for a card of this memory, such as 24GB or 80GiB' }
            '--choices' = @{ Kind = 'nothing'; Count = 0; Help = 'Also count what other settings would change' }
            '--no-choices' = @{ Kind = 'nothing'; Count = 0; Help = 'Also count what other settings would change' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of lines' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = ''
    }
    'restok plan generate' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--preset' = @{ Kind = 'har presets'; Count = 1; Help = 'The preset of the generator' }
            '--tokenizer' = @{ Kind = 'tokenizer presets'; Count = 1; Help = 'The preset of the tokenizer' }
            '--count' = @{ Kind = 'nothing'; Count = 1; Help = 'Images in all' }
            '--batch-size' = @{ Kind = 'auto'; Count = 1; Help = 'Images at a time' }
            '--dtype' = @{ Kind = 'float32|bf16'; Count = 1; Help = 'Precision of the model' }
            '--gpu' = @{ Kind = 'h100|h200|a100|l40s|4090|3090|mi300x|cpu'; Count = 1; Help = 'The card to plan for; cpu: this machine''s, whose rates are measured now' }
            '--price-per-hour' = @{ Kind = 'nothing'; Count = 1; Help = 'Price of a card and hour' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of lines' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = ''
    }
    'restok plan encode' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--tokenizer' = @{ Kind = 'tokenizer presets'; Count = 1; Help = 'The preset of the tokenizer' }
            '--count' = @{ Kind = 'nothing'; Count = 1; Help = 'Images in all' }
            '--batch-size' = @{ Kind = 'auto'; Count = 1; Help = 'Images at a time' }
            '--dtype' = @{ Kind = 'float32|bf16'; Count = 1; Help = 'Precision of the model' }
            '--gpu' = @{ Kind = 'h100|h200|a100|l40s|4090|3090|mi300x|cpu'; Count = 1; Help = 'The card to plan for; cpu: this machine''s, whose rates are measured now' }
            '--price-per-hour' = @{ Kind = 'nothing'; Count = 1; Help = 'Price of a card and hour' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of lines' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = ''
    }
    'restok plan evaluate' = @{
        Commands = [ordered]@{
        }
        Options = [ordered]@{
            '--count' = @{ Kind = 'nothing'; Count = 1; Help = 'Images in all' }
            '--size' = @{ Kind = 'nothing'; Count = 1; Help = 'Pixels along each side of an image' }
            '--batch-size' = @{ Kind = 'auto'; Count = 1; Help = 'Images at a time' }
            '--gpu' = @{ Kind = 'h100|h200|a100|l40s|4090|3090|mi300x|cpu'; Count = 1; Help = 'The card to plan for; cpu: this machine''s, whose rates are measured now' }
            '--price-per-hour' = @{ Kind = 'nothing'; Count = 1; Help = 'Price of a card and hour' }
            '--json' = @{ Kind = 'nothing'; Count = 0; Help = 'Print one JSON object instead of lines' }
            '--help' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
            '-h' = @{ Kind = 'nothing'; Count = 0; Help = 'Show this message and exit' }
        }
        Arguments = @()
        Others = ''
    }
}

Register-ArgumentCompleter -Native -CommandName restok -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    Set-StrictMode -Off  # below, what is not known is $null

    $path = 'restok'
    $kind = ''
    $pending = 0
    $position = 0
    $ended = $false
    $before = @($commandAst.CommandElements | Select-Object -Skip 1 |
            Where-Object { $_.Extent.EndOffset -lt $cursorPosition } | ForEach-Object { $_.Extent.Text })
    foreach ($word in $before) {
        $command = $restokCommands[$path]
        if ($pending -gt 0) {
            $pending -= 1
        } elseif (-not $ended -and $word -eq '--') {
            $ended = $true
        } elseif (-not $ended -and $word -like '-?*') {
            $option = $command.Options[$word]
            if ($option) {
                $kind = $option.Kind
                $pending = $option.Count
            }
        } elseif ($command.Commands.Contains($word)) {
            $path = "$path $word"
        } else {
            $position += 1
        }
    }
    $command = $restokCommands[$path]
    $word = $wordToComplete
    $prefix = ''
    $candidates = @()
    if ($pending -eq 0 -and -not $ended -and $word -like '--*=*') {
        $prefix, $word = $word -split '=', 2
        $kind = $command.Options[$prefix].Kind
        $prefix = "$prefix="
    } elseif ($pending -eq 0 -and -not $ended -and $word -like '-*') {
        $kind = ''
        $candidates = @($command.Options.GetEnumerator() | ForEach-Object { , @($_.Key, $_.Value.Help) })
    } elseif ($pending -eq 0) {
        $kind = if ($position -lt $command.Arguments.Count) { $command.Arguments[$position] } else { $command.Others }
        $candidates = @($command.Commands.GetEnumerator() | ForEach-Object { , @($_.Key, $_.Value) })
    }
    $values = if ($kind) { $restokValues[$kind] }
    if ($values) {
        $candidates += @($values.Words | ForEach-Object { , @($_, $_) })
    }
    $start = $word.Trim([char[]]"'`"")
    foreach ($candidate in $candidates) {
        $text, $help = $candidate
        if ($text.StartsWith($start, [StringComparison]::OrdinalIgnoreCase)) {
            # names with other characters than these are quoted
            $quoted = if ($text -match '^[\w.:=/-]+$') { $text } else { "'" + $text.Replace("'", "''") + "'" }
            [System.Management.Automation.CompletionResult]::new("$prefix$quoted", $text, 'ParameterValue', $help)
        }
    }
    if ($values.Paths) {
        [System.Management.Automation.CompletionCompleters]::CompleteFilename($word) |
            Where-Object { $values.Paths -eq 'files' -or $_.ResultType -eq 'ProviderContainer' } |
            ForEach-Object {
                $text = "$prefix$($_.CompletionText)"
                [System.Management.Automation.CompletionResult]::new($text, $_.ListItemText, $_.ResultType, $_.ToolTip)
            }
    }
}
