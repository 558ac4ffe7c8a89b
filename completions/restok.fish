# fish completion for restok. Made by completions/build.py: change that, and run it.
# fish finds it in a folder vendor_completions.d, or in ~/.config/fish/completions.

function __restok_values --argument-names kind
    switch $kind
        case 'all'
            printf '%s\n' \
                all
        case 'auto'
            printf '%s\n' \
                auto
        case 'auto|float32|bf16'
            printf '%s\n' \
                auto float32 bf16
        case 'auto|on|off'
            printf '%s\n' \
                auto on off
        case 'class names'
            printf '%s\n' \
                imagenet
        case 'classes'
            printf '%s\n' \
                all random face-smiling face-affection face-tongue face-hand face-neutral-skeptical face-sleepy \
                face-unwell face-hat face-glasses face-concerned face-negative face-costume cat-face monkey-face heart \
                emotion hand-fingers-open hand-fingers-partial hand-single-finger hand-fingers-closed hands hand-prop \
                body-parts person person-gesture person-role person-fantasy person-activity person-sport person-resting \
                family person-symbol animal-mammal animal-bird animal-amphibian animal-reptile animal-marine animal-bug \
                plant-flower plant-other food-fruit food-vegetable food-prepared food-asian food-sweet drink dishware \
                place-map place-geographic place-building place-religious place-other transport-ground transport-water \
                transport-air hotel time 'sky & weather' event award-medal sport game 'arts & crafts' clothing sound \
                music musical-instrument phone computer 'light & video' book-paper money mail writing office lock tool \
                science medical household other-object transport-sign warning arrow religion zodiac av-symbol gender \
                math punctuation currency other-symbol keycap alphanum geometric flag country-flag subdivision-flag \
                tench goldfish 'great white shark' 'tiger shark' hammerhead 'electric ray' stingray cock hen ostrich \
                brambling goldfinch 'house finch' junco 'indigo bunting' robin bulbul jay magpie chickadee 'water ouzel' \
                kite 'bald eagle' vulture 'great grey owl' 'European fire salamander' 'common newt' eft \
                'spotted salamander' axolotl bullfrog 'tree frog' 'tailed frog' loggerhead 'leatherback turtle' \
                'mud turtle' terrapin 'box turtle' 'banded gecko' 'common iguana' 'American chameleon' whiptail agama \
                'frilled lizard' 'alligator lizard' 'Gila monster' 'green lizard' 'African chameleon' 'Komodo dragon' \
                'African crocodile' 'American alligator' triceratops 'thunder snake' 'ringneck snake' 'hognose snake' \
                'green snake' 'king snake' 'garter snake' 'water snake' 'vine snake' 'night snake' 'boa constrictor' \
                'rock python' 'Indian cobra' 'green mamba' 'sea snake' 'horned viper' diamondback sidewinder trilobite \
                harvestman scorpion 'black and gold garden spider' 'barn spider' 'garden spider' 'black widow' tarantula \
                'wolf spider' tick centipede 'black grouse' ptarmigan 'ruffed grouse' 'prairie chicken' peacock quail \
                partridge 'African grey' macaw 'sulphur-crested cockatoo' lorikeet coucal 'bee eater' hornbill \
                hummingbird jacamar toucan drake 'red-breasted merganser' goose 'black swan' tusker echidna platypus \
                wallaby koala wombat jellyfish 'sea anemone' 'brain coral' flatworm nematode conch snail slug 'sea slug' \
                chiton 'chambered nautilus' 'Dungeness crab' 'rock crab' 'fiddler crab' 'king crab' 'American lobster' \
                'spiny lobster' crayfish 'hermit crab' isopod 'white stork' 'black stork' spoonbill flamingo \
                'little blue heron' 'American egret' bittern 'crane (bird)' limpkin 'European gallinule' 'American coot' \
                bustard 'ruddy turnstone' 'red-backed sandpiper' redshank dowitcher oystercatcher pelican 'king penguin' \
                albatross 'grey whale' 'killer whale' dugong 'sea lion' Chihuahua 'Japanese spaniel' 'Maltese dog' \
                Pekinese Shih-Tzu 'Blenheim spaniel' papillon 'toy terrier' 'Rhodesian ridgeback' 'Afghan hound' basset \
                beagle bloodhound bluetick 'black-and-tan coonhound' 'Walker hound' 'English foxhound' redbone borzoi \
                'Irish wolfhound' 'Italian greyhound' whippet 'Ibizan hound' 'Norwegian elkhound' otterhound Saluki \
                'Scottish deerhound' Weimaraner 'Staffordshire bullterrier' 'American Staffordshire terrier' \
                'Bedlington terrier' 'Border terrier' 'Kerry blue terrier' 'Irish terrier' 'Norfolk terrier' \
                'Norwich terrier' 'Yorkshire terrier' 'wire-haired fox terrier' 'Lakeland terrier' 'Sealyham terrier' \
                Airedale cairn 'Australian terrier' 'Dandie Dinmont' 'Boston bull' 'miniature schnauzer' \
                'giant schnauzer' 'standard schnauzer' 'Scotch terrier' 'Tibetan terrier' 'silky terrier' \
                'soft-coated wheaten terrier' 'West Highland white terrier' Lhasa 'flat-coated retriever' \
                'curly-coated retriever' 'golden retriever' 'Labrador retriever' 'Chesapeake Bay retriever' \
                'German short-haired pointer' vizsla 'English setter' 'Irish setter' 'Gordon setter' 'Brittany spaniel' \
                clumber 'English springer' 'Welsh springer spaniel' 'cocker spaniel' 'Sussex spaniel' \
                'Irish water spaniel' kuvasz schipperke groenendael malinois briard kelpie komondor \
                'Old English sheepdog' 'Shetland sheepdog' collie 'Border collie' 'Bouvier des Flandres' Rottweiler \
                'German shepherd' Doberman 'miniature pinscher' 'Greater Swiss Mountain dog' 'Bernese mountain dog' \
                Appenzeller EntleBucher boxer 'bull mastiff' 'Tibetan mastiff' 'French bulldog' 'Great Dane' \
                'Saint Bernard' 'Eskimo dog' malamute 'Siberian husky' dalmatian affenpinscher basenji pug Leonberg \
                Newfoundland 'Great Pyrenees' Samoyed Pomeranian chow keeshond 'Brabancon griffon' Pembroke Cardigan \
                'toy poodle' 'miniature poodle' 'standard poodle' 'Mexican hairless' 'timber wolf' 'white wolf' \
                'red wolf' coyote dingo dhole 'African hunting dog' hyena 'red fox' 'kit fox' 'Arctic fox' 'grey fox' \
                tabby 'tiger cat' 'Persian cat' 'Siamese cat' 'Egyptian cat' cougar lynx leopard 'snow leopard' jaguar \
                lion tiger cheetah 'brown bear' 'American black bear' 'ice bear' 'sloth bear' mongoose meerkat \
                'tiger beetle' ladybug 'ground beetle' 'long-horned beetle' 'leaf beetle' 'dung beetle' \
                'rhinoceros beetle' weevil fly bee ant grasshopper cricket 'walking stick' cockroach mantis cicada \
                leafhopper lacewing dragonfly damselfly admiral ringlet monarch 'cabbage butterfly' 'sulphur butterfly' \
                lycaenid starfish 'sea urchin' 'sea cucumber' 'wood rabbit' hare Angora hamster porcupine 'fox squirrel' \
                marmot beaver 'guinea pig' sorrel zebra hog 'wild boar' warthog hippopotamus ox 'water buffalo' bison \
                ram bighorn ibex hartebeest impala gazelle 'Arabian camel' llama weasel mink polecat \
                'black-footed ferret' otter skunk badger armadillo 'three-toed sloth' orangutan gorilla chimpanzee \
                gibbon siamang guenon patas baboon macaque langur colobus 'proboscis monkey' marmoset capuchin \
                'howler monkey' titi 'spider monkey' 'squirrel monkey' 'Madagascar cat' indri 'Indian elephant' \
                'African elephant' 'lesser panda' 'giant panda' barracouta eel coho 'rock beauty' 'anemone fish' \
                sturgeon gar lionfish puffer abacus abaya 'academic gown' accordion 'acoustic guitar' 'aircraft carrier' \
                airliner airship altar ambulance amphibian 'analog clock' apiary apron ashcan 'assault rifle' backpack \
                bakery 'balance beam' balloon ballpoint 'Band Aid' banjo bannister barbell 'barber chair' barbershop \
                barn barometer barrel barrow baseball basketball bassinet bassoon 'bathing cap' 'bath towel' bathtub \
                'beach wagon' beacon beaker bearskin 'beer bottle' 'beer glass' 'bell cote' bib bicycle-built-for-two \
                bikini binder binoculars birdhouse boathouse bobsled 'bolo tie' bonnet bookcase bookshop bottlecap bow \
                'bow tie' brass brassiere breakwater breastplate broom bucket buckle 'bulletproof vest' 'bullet train' \
                'butcher shop' cab caldron candle cannon canoe 'can opener' cardigan 'car mirror' carousel \
                'carpenter\'s kit' carton 'car wheel' 'cash machine' cassette 'cassette player' castle catamaran \
                'CD player' cello 'cellular telephone' chain 'chainlink fence' 'chain mail' 'chain saw' chest chiffonier \
                chime 'china cabinet' 'Christmas stocking' church cinema cleaver 'cliff dwelling' cloak clog \
                'cocktail shaker' 'coffee mug' coffeepot coil 'combination lock' 'computer keyboard' confectionery \
                'container ship' convertible corkscrew cornet 'cowboy boot' 'cowboy hat' cradle 'crane (machine)' \
                'crash helmet' crate crib 'Crock Pot' 'croquet ball' crutch cuirass dam desk 'desktop computer' \
                'dial telephone' diaper 'digital clock' 'digital watch' 'dining table' dishrag dishwasher 'disk brake' \
                dock dogsled dome doormat 'drilling platform' drum drumstick dumbbell 'Dutch oven' 'electric fan' \
                'electric guitar' 'electric locomotive' 'entertainment center' envelope 'espresso maker' 'face powder' \
                'feather boa' file fireboat 'fire engine' 'fire screen' flagpole flute 'folding chair' 'football helmet' \
                forklift fountain 'fountain pen' four-poster 'freight car' 'French horn' 'frying pan' 'fur coat' \
                'garbage truck' gasmask 'gas pump' goblet go-kart 'golf ball' golfcart gondola gong gown 'grand piano' \
                greenhouse grille 'grocery store' guillotine 'hair slide' 'hair spray' 'half track' hammer hamper \
                'hand blower' 'hand-held computer' handkerchief 'hard disc' harmonica harp harvester hatchet holster \
                'home theater' honeycomb hook hoopskirt 'horizontal bar' 'horse cart' hourglass iPod iron \
                'jack-o\'-lantern' jean jeep jersey 'jigsaw puzzle' jinrikisha joystick kimono 'knee pad' knot \
                'lab coat' ladle lampshade laptop 'lawn mower' 'lens cap' 'letter opener' library lifeboat lighter \
                limousine liner lipstick Loafer lotion loudspeaker loupe lumbermill 'magnetic compass' mailbag mailbox \
                maillot 'maillot, tank suit' 'manhole cover' maraca marimba mask matchstick maypole maze 'measuring cup' \
                'medicine chest' megalith microphone microwave 'military uniform' 'milk can' minibus miniskirt minivan \
                missile mitten 'mixing bowl' 'mobile home' 'Model T' modem monastery monitor moped mortar mortarboard \
                mosque 'mosquito net' 'motor scooter' 'mountain bike' 'mountain tent' mouse mousetrap 'moving van' \
                muzzle nail 'neck brace' necklace nipple notebook obelisk oboe ocarina odometer 'oil filter' organ \
                oscilloscope overskirt oxcart 'oxygen mask' packet paddle paddlewheel padlock paintbrush pajama palace \
                panpipe 'paper towel' parachute 'parallel bars' 'park bench' 'parking meter' 'passenger car' patio \
                pay-phone pedestal 'pencil box' 'pencil sharpener' perfume 'Petri dish' photocopier pick pickelhaube \
                'picket fence' pickup pier 'piggy bank' 'pill bottle' pillow 'ping-pong ball' pinwheel pirate pitcher \
                plane planetarium 'plastic bag' 'plate rack' plow plunger 'Polaroid camera' pole 'police van' poncho \
                'pool table' 'pop bottle' pot 'potter\'s wheel' 'power drill' 'prayer rug' printer prison projectile \
                projector puck 'punching bag' purse quill quilt racer racket radiator radio 'radio telescope' \
                'rain barrel' 'recreational vehicle' reel 'reflex camera' refrigerator 'remote control' restaurant \
                revolver rifle 'rocking chair' rotisserie 'rubber eraser' 'rugby ball' rule 'running shoe' safe \
                'safety pin' saltshaker sandal sarong sax scabbard scale 'school bus' schooner scoreboard screen screw \
                screwdriver 'seat belt' 'sewing machine' shield 'shoe shop' shoji 'shopping basket' 'shopping cart' \
                shovel 'shower cap' 'shower curtain' ski 'ski mask' 'sleeping bag' 'slide rule' 'sliding door' slot \
                snorkel snowmobile snowplow 'soap dispenser' 'soccer ball' sock 'solar dish' sombrero 'soup bowl' \
                'space bar' 'space heater' 'space shuttle' spatula speedboat 'spider web' spindle 'sports car' spotlight \
                stage 'steam locomotive' 'steel arch bridge' 'steel drum' stethoscope stole 'stone wall' stopwatch stove \
                strainer streetcar stretcher 'studio couch' stupa submarine suit sundial sunglass sunglasses sunscreen \
                'suspension bridge' swab sweatshirt 'swimming trunks' swing switch syringe 'table lamp' tank \
                'tape player' teapot teddy television 'tennis ball' thatch 'theater curtain' thimble thresher throne \
                'tile roof' toaster 'tobacco shop' 'toilet seat' torch 'totem pole' 'tow truck' toyshop tractor \
                'trailer truck' tray 'trench coat' tricycle trimaran tripod 'triumphal arch' trolleybus trombone tub \
                turnstile 'typewriter keyboard' umbrella unicycle upright vacuum vase vault velvet 'vending machine' \
                vestment viaduct violin volleyball 'waffle iron' 'wall clock' wallet wardrobe warplane washbasin washer \
                'water bottle' 'water jug' 'water tower' 'whiskey jug' whistle wig 'window screen' 'window shade' \
                'Windsor tie' 'wine bottle' wing wok 'wooden spoon' wool 'worm fence' wreck yawl yurt 'web site' \
                'comic book' 'crossword puzzle' 'street sign' 'traffic light' 'book jacket' menu plate guacamole \
                consomme 'hot pot' trifle 'ice cream' 'ice lolly' 'French loaf' bagel pretzel cheeseburger hotdog \
                'mashed potato' 'head cabbage' broccoli cauliflower zucchini 'spaghetti squash' 'acorn squash' \
                'butternut squash' cucumber artichoke 'bell pepper' cardoon mushroom 'Granny Smith' strawberry orange \
                lemon fig pineapple banana jackfruit 'custard apple' pomegranate hay carbonara 'chocolate sauce' dough \
                'meat loaf' pizza potpie burrito 'red wine' espresso cup eggnog alp bubble cliff 'coral reef' geyser \
                lakeside promontory sandbar seashore valley volcano ballplayer groom 'scuba diver' rapeseed daisy \
                'yellow lady\'s slipper' corn acorn hip buckeye 'coral fungus' agaric gyromitra stinkhorn earthstar \
                hen-of-the-woods bolete ear 'toilet tissue'
        case 'configs'
            printf '%s\n' \
                ar-l har-1b har-3b har-b har-l har-xl har-xxl har-xxxl restok-b-128 restok-l-128 restok-l-128-1-stage \
                restok-l-128-2-stages restok-l-128-3-stages restok-l-128-image-residuals restok-l-128-latent-residuals \
                restok-l-128-no-alignment restok-l-128-no-nested-dropout restok-l-128-no-residuals restok-l-128-released \
                restok-s-128 sample sample-gpu tiny
        case 'constant|linear|linear-reversed|linear-constant|triangular|rectangular|step|cosine|cosine-reversed'
            printf '%s\n' \
                constant linear linear-reversed linear-constant triangular rectangular step cosine cosine-reversed
        case 'data'
            printf '%s\n' \
                sample
        case 'devices'
            printf '%s\n' \
                auto cpu cuda mps
        case 'float32|bf16'
            printf '%s\n' \
                float32 bf16
        case 'h100|h200|a100|l40s|4090|3090|mi300x|cpu'
            printf '%s\n' \
                h100 h200 a100 l40s 4090 3090 mi300x cpu
        case 'har presets'
            printf '%s\n' \
                ar-l har-1b har-3b har-b har-l har-xl har-xxl har-xxxl sample sample-gpu tiny
        case 'har settings'
            printf '%s\n' \
                'model.codebook_size=' 'model.num_codes=' 'model.num_sequential_codes=' 'model.num_classes=' \
                'model.width=' 'model.num_layers=' 'model.num_heads=' 'model.class_dropout=' 'model.token_dropout=' \
                'model.residual_dropout=' 'model.ffn_dropout=' 'data.crop=' 'data.random_zoom=' 'data.random_crop_area=' \
                'data.random_flip=' 'data.num_workers=' 'data.broken_limit=' 'data.max_member_bytes=' \
                'optimizer.schedule=' 'optimizer.learning_rate=' 'optimizer.final_learning_rate=' \
                'optimizer.warmup_steps=' 'optimizer.decay_steps=' 'optimizer.beta1=' 'optimizer.beta2=' \
                'optimizer.weight_decay=' 'optimizer.max_grad_norm=' 'schedule.max_steps=' 'schedule.batch_size=' \
                'schedule.micro_batch_size=' 'schedule.seed=' 'schedule.ema_decay=' 'schedule.log_every=' \
                'schedule.preview_every=' 'schedule.validate_every=' 'schedule.validation_images=' \
                'schedule.save_every=' 'schedule.keep_checkpoints=' 'schedule.keep_every=' 'schedule.early_stop=' \
                'compute.precision=' 'compute.compile=' 'compute.memory=' 'compute.deterministic=' 'compute.sharding=' \
                'health.max_skipped_steps=' 'health.warn_data_wait='
        case 'limits'
            printf '%s\n' \
                'gfid=' 'rfid=' 'fid=' 'fid-inf=' 'pfid=' 'sfid=' 'is=' 'precision=' 'recall=' 'kid=' 'density=' \
                'coverage=' 'mind=' 'cmmd=' 'psnr=' 'ssim=' 'ms-ssim=' 'lpips=' 'mse=' 'codebook_usage=' \
                'codebook_entropy=' 'codebook_perplexity=' 'nll='
        case 'metric'
            printf '%s\n' \
                gfid rfid fid fid-inf pfid sfid is precision recall kid density coverage mind cmmd psnr ssim ms-ssim \
                lpips mse codebook nll all
        case 'metric of sets'
            printf '%s\n' \
                gfid fid fid-inf sfid is precision recall kid density coverage mind cmmd
        case 'models'
            printf '%s\n' \
                sample 'hf:xushu-me/restok_l_128.r256_in1k' 'hf:xushu-me/llamagen_l_c2i_restok_l_128.r256_in1k'
        case 'networks'
            printf '%s\n' \
                inception dinov2 clip vgg16 'timm:' random
        case 'options to try'
            printf '%s\n' \
                'cfg_scale=' 'cfg_schedule=' 'cfg_start=' 'cfg_stop=' 'cfg_peak=' 'temperature=' 'top_k=' 'top_p='
        case 'parts'
            printf '%s\n' \
                encode decode generate ar train loading inception
        case 'pictures'
            printf '%s\n' \
                sample
        case 'presets'
            printf '%s\n' \
                restok-b-128 restok-l-128 restok-l-128-1-stage restok-l-128-2-stages restok-l-128-3-stages \
                restok-l-128-image-residuals restok-l-128-latent-residuals restok-l-128-no-alignment \
                restok-l-128-no-nested-dropout restok-l-128-no-residuals restok-l-128-released restok-s-128 sample \
                sample-gpu tiny ar-l har-1b har-3b har-b har-l har-xl har-xxl har-xxxl
        case 'quick|full'
            printf '%s\n' \
                quick full
        case 'ten-crop|flip|centre'
            printf '%s\n' \
                ten-crop flip centre
        case 'tokenizer and har settings'
            printf '%s\n' \
                'model.image_height=' 'model.image_width=' 'model.patch_size=' 'model.pixel_encoder=' \
                'model.cnn_channels=' 'model.cnn_multipliers=' 'model.cnn_norm_groups=' 'model.cnn_shortcut=' \
                'model.feature_channels=' 'model.encoder_width=' 'model.encoder_layers=' 'model.decoder_width=' \
                'model.decoder_layers=' 'model.head_width=' 'model.num_stages=' 'model.merge_factor=' 'model.merge=' \
                'model.residual_image_tokens=' 'model.num_latent_tokens=' 'model.latent_init=' \
                'model.residual_latent_tokens=' 'model.latent_layout=' 'model.head_per_level=' 'model.image_queries=' \
                'model.codebook_size=' 'model.codebook_dim=' 'model.normalize_codes=' 'model.encoder_alignment_dim=' \
                'model.decoder_alignment_dim=' 'data.crop=' 'data.random_zoom=' 'data.random_crop_area=' \
                'data.random_flip=' 'data.num_workers=' 'data.broken_limit=' 'data.max_member_bytes=' \
                'optimizer.schedule=' 'optimizer.learning_rate=' 'optimizer.final_learning_rate=' \
                'optimizer.warmup_steps=' 'optimizer.decay_steps=' 'optimizer.beta1=' 'optimizer.beta2=' \
                'optimizer.weight_decay=' 'optimizer.max_grad_norm=' 'schedule.max_steps=' 'schedule.batch_size=' \
                'schedule.micro_batch_size=' 'schedule.seed=' 'schedule.ema_decay=' 'schedule.log_every=' \
                'schedule.preview_every=' 'schedule.validate_every=' 'schedule.validation_images=' \
                'schedule.save_every=' 'schedule.keep_checkpoints=' 'schedule.keep_every=' 'schedule.early_stop=' \
                'schedule.initial_convolutions=' 'loss.reconstruction=' 'loss.reconstruction_weight=' \
                'loss.quantizer_weight=' 'loss.entropy_weight=' 'loss.perceptual_weight=' 'loss.lpips_weights=' \
                'alignment.encoder_weight=' 'alignment.decoder_weight=' 'alignment.margin=' 'alignment.teacher=' \
                'alignment.weights=' 'discriminator.weight=' 'discriminator.start_step=' 'discriminator.kind=' \
                'discriminator.weights=' 'discriminator.augment_probability=' 'discriminator.augment_range=' \
                'discriminator.lecam_weight=' 'discriminator.lecam_decay=' 'discriminator.optimizer.schedule=' \
                'discriminator.optimizer.learning_rate=' 'discriminator.optimizer.final_learning_rate=' \
                'discriminator.optimizer.warmup_steps=' 'discriminator.optimizer.decay_steps=' \
                'discriminator.optimizer.beta1=' 'discriminator.optimizer.beta2=' \
                'discriminator.optimizer.weight_decay=' 'discriminator.optimizer.max_grad_norm=' \
                'nested_dropout.probability=' 'nested_dropout.min_tokens=' 'revival.every=' 'revival.until=' \
                'compute.precision=' 'compute.compile=' 'compute.memory=' 'compute.deterministic=' \
                'health.max_skipped_steps=' 'health.warn_data_wait=' 'health.warn_codebook_usage=' 'model.num_codes=' \
                'model.num_sequential_codes=' 'model.num_classes=' 'model.width=' 'model.num_layers=' 'model.num_heads=' \
                'model.class_dropout=' 'model.token_dropout=' 'model.residual_dropout=' 'model.ffn_dropout=' \
                'compute.sharding='
        case 'tokenizer presets'
            printf '%s\n' \
                restok-b-128 restok-l-128 restok-l-128-1-stage restok-l-128-2-stages restok-l-128-3-stages \
                restok-l-128-image-residuals restok-l-128-latent-residuals restok-l-128-no-alignment \
                restok-l-128-no-nested-dropout restok-l-128-no-residuals restok-l-128-released restok-s-128 sample \
                sample-gpu tiny
        case 'tokenizer settings'
            printf '%s\n' \
                'model.image_height=' 'model.image_width=' 'model.patch_size=' 'model.pixel_encoder=' \
                'model.cnn_channels=' 'model.cnn_multipliers=' 'model.cnn_norm_groups=' 'model.cnn_shortcut=' \
                'model.feature_channels=' 'model.encoder_width=' 'model.encoder_layers=' 'model.decoder_width=' \
                'model.decoder_layers=' 'model.head_width=' 'model.num_stages=' 'model.merge_factor=' 'model.merge=' \
                'model.residual_image_tokens=' 'model.num_latent_tokens=' 'model.latent_init=' \
                'model.residual_latent_tokens=' 'model.latent_layout=' 'model.head_per_level=' 'model.image_queries=' \
                'model.codebook_size=' 'model.codebook_dim=' 'model.normalize_codes=' 'model.encoder_alignment_dim=' \
                'model.decoder_alignment_dim=' 'data.crop=' 'data.random_zoom=' 'data.random_crop_area=' \
                'data.random_flip=' 'data.num_workers=' 'data.broken_limit=' 'data.max_member_bytes=' \
                'optimizer.schedule=' 'optimizer.learning_rate=' 'optimizer.final_learning_rate=' \
                'optimizer.warmup_steps=' 'optimizer.decay_steps=' 'optimizer.beta1=' 'optimizer.beta2=' \
                'optimizer.weight_decay=' 'optimizer.max_grad_norm=' 'schedule.max_steps=' 'schedule.batch_size=' \
                'schedule.micro_batch_size=' 'schedule.seed=' 'schedule.ema_decay=' 'schedule.log_every=' \
                'schedule.preview_every=' 'schedule.validate_every=' 'schedule.validation_images=' \
                'schedule.save_every=' 'schedule.keep_checkpoints=' 'schedule.keep_every=' 'schedule.early_stop=' \
                'schedule.initial_convolutions=' 'loss.reconstruction=' 'loss.reconstruction_weight=' \
                'loss.quantizer_weight=' 'loss.entropy_weight=' 'loss.perceptual_weight=' 'loss.lpips_weights=' \
                'alignment.encoder_weight=' 'alignment.decoder_weight=' 'alignment.margin=' 'alignment.teacher=' \
                'alignment.weights=' 'discriminator.weight=' 'discriminator.start_step=' 'discriminator.kind=' \
                'discriminator.weights=' 'discriminator.augment_probability=' 'discriminator.augment_range=' \
                'discriminator.lecam_weight=' 'discriminator.lecam_decay=' 'discriminator.optimizer.schedule=' \
                'discriminator.optimizer.learning_rate=' 'discriminator.optimizer.final_learning_rate=' \
                'discriminator.optimizer.warmup_steps=' 'discriminator.optimizer.decay_steps=' \
                'discriminator.optimizer.beta1=' 'discriminator.optimizer.beta2=' \
                'discriminator.optimizer.weight_decay=' 'discriminator.optimizer.max_grad_norm=' \
                'nested_dropout.probability=' 'nested_dropout.min_tokens=' 'revival.every=' 'revival.until=' \
                'compute.precision=' 'compute.compile=' 'compute.memory=' 'compute.deterministic=' \
                'health.max_skipped_steps=' 'health.warn_data_wait=' 'health.warn_codebook_usage='
        case 'tokenizer|generator'
            printf '%s\n' \
                tokenizer generator
        case 'tokenizer|har'
            printf '%s\n' \
                tokenizer har
        case 'trackers'
            printf '%s\n' \
                tensorboard wandb trackio
        case 'validation|train'
            printf '%s\n' \
                validation train
        case 'validation|train|all'
            printf '%s\n' \
                validation train all
        case 'ways to draw'
            printf '%s\n' \
                paper sample
    end
end

set -g __restok_commands 'restok prepare' 'restok prepare imagenet' 'restok prepare folder' 'restok prepare shards' 'restok prepare codes' 'restok prepare verify' 'restok prepare sample' 'restok train-tokenizer' 'restok train-har' 'restok reconstruct' 'restok generate' 'restok encode' 'restok decode' 'restok evaluate' 'restok probe' 'restok tune' 'restok curves' 'restok report' 'restok demo' 'restok bench' 'restok doctor' 'restok models' 'restok models presets' 'restok models show' 'restok models verify' 'restok models convert' 'restok models halve' 'restok models card' 'restok models push' 'restok config' 'restok config suggest' 'restok config show' 'restok config diff' 'restok config validate' 'restok config schema' 'restok plan' 'restok plan train-tokenizer' 'restok plan train-har' 'restok plan generate' 'restok plan encode' 'restok plan evaluate'

# How many of the words after an option are its values.
function __restok_takes --argument-names path option
    switch "$path $option"
        case \
            'restok prepare imagenet --resize' 'restok prepare imagenet --max-pixels' \
            'restok prepare imagenet --max-decoded-pixels' 'restok prepare imagenet --max-member-bytes' \
            'restok prepare imagenet --check' 'restok prepare imagenet --samples-per-shard' \
            'restok prepare imagenet --jobs' 'restok prepare folder --validation-fraction' \
            'restok prepare folder --resize' 'restok prepare folder --max-pixels' \
            'restok prepare folder --max-decoded-pixels' 'restok prepare folder --max-member-bytes' \
            'restok prepare folder --check' 'restok prepare folder --samples-per-shard' 'restok prepare folder --jobs' \
            'restok prepare shards --class-names' 'restok prepare shards --num-classes' 'restok prepare shards --check' \
            'restok prepare shards --max-decoded-pixels' 'restok prepare shards --max-member-bytes' \
            'restok prepare shards --jobs' 'restok prepare codes --tokenizer' 'restok prepare codes --views' \
            'restok prepare codes --batch-size' 'restok prepare codes --num-workers' \
            'restok prepare codes --max-member-bytes' 'restok prepare codes --num-processes' \
            'restok prepare codes --device' 'restok prepare codes --dtype' 'restok prepare verify --jobs' \
            'restok prepare verify --max-member-bytes' 'restok train-tokenizer --output' 'restok train-tokenizer -o' \
            'restok train-tokenizer --preset' 'restok train-tokenizer --config' 'restok train-tokenizer --set' \
            'restok train-tokenizer --max-steps' 'restok train-tokenizer --batch-size' 'restok train-tokenizer --seed' \
            'restok train-tokenizer --image-size' 'restok train-tokenizer --init' 'restok train-tokenizer --early-stop' \
            'restok train-tokenizer --stop-at' 'restok train-tokenizer --track' 'restok train-tokenizer --num-processes' \
            'restok train-tokenizer --device' 'restok train-har --tokenizer' 'restok train-har --output' \
            'restok train-har -o' 'restok train-har --preset' 'restok train-har --config' 'restok train-har --set' \
            'restok train-har --max-steps' 'restok train-har --batch-size' 'restok train-har --seed' \
            'restok train-har --image-size' 'restok train-har --init' 'restok train-har --early-stop' \
            'restok train-har --stop-at' 'restok train-har --track' 'restok train-har --num-processes' \
            'restok train-har --device' 'restok reconstruct --model' 'restok reconstruct --output' \
            'restok reconstruct -o' 'restok reconstruct --num-codes' 'restok reconstruct --split' \
            'restok reconstruct --max-decoded-pixels' 'restok reconstruct --max-member-bytes' \
            'restok reconstruct --grid' 'restok reconstruct --ladder' 'restok reconstruct --num-processes' \
            'restok reconstruct --batch-size' 'restok reconstruct --device' 'restok reconstruct --dtype' \
            'restok generate --model' 'restok generate --steps' 'restok generate --count' 'restok generate --class' \
            'restok generate --like' 'restok generate --keep' 'restok generate --seed' 'restok generate --preset' \
            'restok generate --cfg-scale' 'restok generate --cfg-schedule' 'restok generate --cfg-start' \
            'restok generate --cfg-stop' 'restok generate --cfg-peak' 'restok generate --temperature' \
            'restok generate --top-k' 'restok generate --top-p' 'restok generate --tokenizer' 'restok generate --output' \
            'restok generate -o' 'restok generate --grid' 'restok generate --ladder' 'restok generate --num-processes' \
            'restok generate --compile' 'restok generate --batch-size' 'restok generate --device' \
            'restok generate --dtype' 'restok encode --model' 'restok encode --output' 'restok encode -o' \
            'restok encode --split' 'restok encode --max-decoded-pixels' 'restok encode --max-member-bytes' \
            'restok encode --num-processes' 'restok encode --batch-size' 'restok encode --device' \
            'restok encode --dtype' 'restok decode --model' 'restok decode --output' 'restok decode -o' \
            'restok decode --num-codes' 'restok decode --keep' 'restok decode --grid' 'restok decode --ladder' \
            'restok decode --batch-size' 'restok decode --device' 'restok decode --dtype' 'restok evaluate --metric' \
            'restok evaluate --reference' 'restok evaluate --split' 'restok evaluate --crop' \
            'restok evaluate --max-decoded-pixels' 'restok evaluate --max-member-bytes' 'restok evaluate --model' \
            'restok evaluate --num-codes' 'restok evaluate --perturb' 'restok evaluate --nearest' \
            'restok evaluate --features' 'restok evaluate --inception-weights' 'restok evaluate --vgg-weights' \
            'restok evaluate --timm-weights' 'restok evaluate --cache' 'restok evaluate --batch-size' \
            'restok evaluate --plot' 'restok evaluate --fail-under' 'restok evaluate --make-reference' \
            'restok evaluate --output' 'restok evaluate -o' 'restok evaluate --reference-images' \
            'restok evaluate --num-processes' 'restok evaluate --device' 'restok probe --part' 'restok probe --block' \
            'restok probe --tokenizer' 'restok probe --l2' 'restok probe --neighbours' 'restok probe --cache' \
            'restok probe --batch-size' 'restok probe --num-processes' 'restok probe --device' 'restok tune --metric' \
            'restok tune --reference' 'restok tune --split' 'restok tune --features' 'restok tune --inception-weights' \
            'restok tune --vgg-weights' 'restok tune --timm-weights' 'restok tune --cache' 'restok tune --space' \
            'restok tune --try' 'restok tune --first' 'restok tune --images' 'restok tune --class' 'restok tune --steps' \
            'restok tune --seed' 'restok tune --tokenizer' 'restok tune --output' 'restok tune -o' 'restok tune --plot' \
            'restok tune --num-processes' 'restok tune --batch-size' 'restok tune --device' 'restok tune --dtype' \
            'restok curves --output' 'restok curves -o' 'restok curves --metric' 'restok report --output' \
            'restok report -o' 'restok report --metrics' 'restok demo --output' 'restok demo -o' 'restok bench --model' \
            'restok bench --preset' 'restok bench --har' 'restok bench --what' 'restok bench --batch-size' \
            'restok bench --runs' 'restok bench --device' 'restok bench --plot' 'restok models presets --kind' \
            'restok models card --metrics' 'restok models card --licence' 'restok models card --license' \
            'restok models push --metrics' 'restok models push --licence' 'restok models push --license' \
            'restok models push --revision' 'restok config suggest --kind' 'restok config suggest --image-size' \
            'restok config suggest --minutes' 'restok config suggest --memory' 'restok config suggest --device' \
            'restok config show --set' 'restok config show --kind' 'restok config diff --kind' \
            'restok config validate --kind' 'restok plan train-tokenizer --preset' \
            'restok plan train-tokenizer --config' 'restok plan train-tokenizer --set' \
            'restok plan train-tokenizer --max-steps' 'restok plan train-tokenizer --batch-size' \
            'restok plan train-tokenizer --gpu' 'restok plan train-tokenizer --num-processes' \
            'restok plan train-tokenizer --price-per-hour' 'restok plan train-tokenizer --fit' \
            'restok plan train-har --preset' 'restok plan train-har --config' 'restok plan train-har --set' \
            'restok plan train-har --max-steps' 'restok plan train-har --batch-size' 'restok plan train-har --gpu' \
            'restok plan train-har --num-processes' 'restok plan train-har --price-per-hour' \
            'restok plan train-har --fit' 'restok plan generate --preset' 'restok plan generate --tokenizer' \
            'restok plan generate --count' 'restok plan generate --batch-size' 'restok plan generate --dtype' \
            'restok plan generate --gpu' 'restok plan generate --price-per-hour' 'restok plan encode --tokenizer' \
            'restok plan encode --count' 'restok plan encode --batch-size' 'restok plan encode --dtype' \
            'restok plan encode --gpu' 'restok plan encode --price-per-hour' 'restok plan evaluate --count' \
            'restok plan evaluate --size' 'restok plan evaluate --batch-size' 'restok plan evaluate --gpu' \
            'restok plan evaluate --price-per-hour'
            echo 1
        case \
            'restok decode --mix' 'restok evaluate --compare'
            echo 2
        case '*'
            echo 0
    end
end

# The command that the line before the cursor has come to, the number of the argument that it stands at, and the option
# whose value it stands at.
function __restok_place
    set -l path restok
    set -l position 1
    set -l skip 0
    set -l option
    set -l ended
    for word in (commandline -opc)[2..]
        if test $skip -gt 0
            set skip (math $skip - 1)
        else if test -z "$ended" -a "$word" = --
            set ended 1
        else if test -z "$ended"; and string match -qr -- '^-.' $word
            set option $word
            set skip (__restok_takes "$path" $word)
        else if contains -- "$path $word" $__restok_commands
            set path "$path $word"
        else
            set position (math $position + 1)
        end
    end
    test $skip -gt 0; or set option
    printf '%s\n' $path $position "$option"
end

function __restok_at --argument-names path
    test (__restok_place)[1] = $path
end

function __restok_argument --argument-names path first last
    set -l place (__restok_place)
    test $place[1] = $path -a $place[2] -ge $first -a $place[2] -le $last -a -z "$place[3]"
end

function __restok_value --argument-names path option
    set -l place (__restok_place)
    test $place[1] = $path -a "$place[3]" = $option
end

function __restok_folders
    __fish_complete_directories (commandline -ct | string replace -r -- '^--[^=]*=' '') ''
end

complete -c restok -f

# restok
complete -c restok -n '__restok_argument \'restok\' 1 1' -a prepare -d 'Make a data set: tar shards, indexed and hashed, that training reads in an exact order'
complete -c restok -n '__restok_argument \'restok\' 1 1' -a train-tokenizer -d 'Train a tokenizer: images to codes in coarse-to-fine levels, and back'
complete -c restok -n '__restok_argument \'restok\' 1 1' -a train-har -d 'Train a HAR generator, which draws the codes of an image level by level: 9 steps for …'
complete -c restok -n '__restok_argument \'restok\' 1 1' -a reconstruct -d 'Encode images to codes, decode them, and say how near they come (PSNR)'
complete -c restok -n '__restok_argument \'restok\' 1 1' -a generate -d 'Draw images: each in 9 steps where an autoregressive model would take 128'
complete -c restok -n '__restok_argument \'restok\' 1 1' -a encode -d 'Turn images into codes: 128 numbers each, or as many as the tokenizer makes'
complete -c restok -n '__restok_argument \'restok\' 1 1' -a decode -d 'Turn codes into images: all codes of each, or a prefix of them, which gives a coarser …'
complete -c restok -n '__restok_argument \'restok\' 1 1' -a evaluate -d 'Measure images (FID, IS, precision, recall, KID, PSNR, SSIM, …) and codes'
complete -c restok -n '__restok_argument \'restok\' 1 1' -a probe -d 'Say how well frozen features tell classes apart, by a linear probe and by nearest …'
complete -c restok -n '__restok_argument \'restok\' 1 1' -a tune -d 'Find the guidance and temperature that suit a generator'
complete -c restok -n '__restok_argument \'restok\' 1 1' -a curves -d 'Draw what runs have logged over their steps: a panel for each number, a line in it for …'
complete -c restok -n '__restok_argument \'restok\' 1 1' -a report -d 'Make one HTML file of runs: curves, previews, the codebook, metrics, config and …'
complete -c restok -n '__restok_argument \'restok\' 1 1' -a demo -d 'Run every command once, on the emoji that come with restok: five minutes on two CPU …'
complete -c restok -n '__restok_argument \'restok\' 1 1' -a bench -d 'Measure encoding, decoding, drawing, training, loading and Inception here'
complete -c restok -n '__restok_argument \'restok\' 1 1' -a doctor -d 'Say whether this machine has what restok needs, and what to do where it has not. …'
complete -c restok -n '__restok_argument \'restok\' 1 1' -a models -d 'List presets and models; show, verify, convert, describe or publish one'
complete -c restok -n '__restok_argument \'restok\' 1 1' -a config -d 'Suggest, show, compare and check the settings of runs'
complete -c restok -n '__restok_argument \'restok\' 1 1' -a plan -d 'Say what a run will take: memory, arithmetic, time, energy, money, disk'
complete -c restok -n '__restok_at \'restok\'' -l version -d 'Print the version and leave'
complete -c restok -n '__restok_at \'restok\'' -l help -s h -d 'Show this message and exit'

# restok prepare
complete -c restok -n '__restok_argument \'restok prepare\' 1 1' -a imagenet -d 'Make a data set from ImageNet-1k, in any of its usual forms'
complete -c restok -n '__restok_argument \'restok prepare\' 1 1' -a folder -d 'Make a data set from a folder of images'
complete -c restok -n '__restok_argument \'restok prepare\' 1 1' -a shards -d 'Make a data set of WebDataset shards, which stay where they are'
complete -c restok -n '__restok_argument \'restok prepare\' 1 1' -a codes -d 'Encode every image of a data set once, to train generators on codes alone'
complete -c restok -n '__restok_argument \'restok prepare\' 1 1' -a verify -d 'Read a data set, or the codes of one, and say whether it is what was prepared'
complete -c restok -n '__restok_argument \'restok prepare\' 1 1' -a sample -d 'Write out the data set that comes with restok, of 1,906 emoji'
complete -c restok -n '__restok_at \'restok prepare\'' -l help -s h -d 'Show this message and exit'

# restok prepare imagenet
complete -c restok -n '__restok_at \'restok prepare imagenet\'' -l test-as-validation -d 'Validate on the test split, where there is none for validation'
complete -c restok -n '__restok_at \'restok prepare imagenet\'' -l resize -r -f -d 'Shrink images whose shorter edge is longer than this. JPEG stays JPEG; others become …'
complete -c restok -n '__restok_at \'restok prepare imagenet\'' -l max-pixels -r -f -d 'Shrink images of more pixels than this to so many'
complete -c restok -n '__restok_at \'restok prepare imagenet\'' -l max-decoded-pixels -r -f -d 'Images of more pixels than this are left out, since they may fill all memory. Default: …'
complete -c restok -n '__restok_at \'restok prepare imagenet\'' -l max-member-bytes -r -f -d 'Image files, and files in tars, of more bytes than this are left out unread. Default: …'
complete -c restok -n '__restok_at \'restok prepare imagenet\'' -l check -r -f -a '(__restok_values \'quick|full\')' -d 'How to look for broken images: quick reads structure (no image, cut short, PNG …'
complete -c restok -n '__restok_at \'restok prepare imagenet\'' -l samples-per-shard -r -f -d 'Images in a shard'
complete -c restok -n '__restok_at \'restok prepare imagenet\'' -l jobs -r -f -d 'Processes to work with; the result is the same. Default: one per core'
complete -c restok -n '__restok_at \'restok prepare imagenet\'' -l overwrite -d 'Replace the data set that OUT already holds'
complete -c restok -n '__restok_at \'restok prepare imagenet\'' -l json -d 'Print the counts as one JSON object instead of OUT'
complete -c restok -n '__restok_at \'restok prepare imagenet\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok prepare imagenet\' 1 1' -f -a '(__restok_folders)'
complete -c restok -n '__restok_argument \'restok prepare imagenet\' 2 2' -F

# restok prepare folder
complete -c restok -n '__restok_at \'restok prepare folder\'' -l validation-fraction -r -f -d 'The part of each class to validate on, where DIR has no validation split of its own'
complete -c restok -n '__restok_at \'restok prepare folder\'' -l test-as-validation -d 'Validate on the test split, where there is none for validation'
complete -c restok -n '__restok_at \'restok prepare folder\'' -l resize -r -f -d 'Shrink images whose shorter edge is longer than this. JPEG stays JPEG; others become …'
complete -c restok -n '__restok_at \'restok prepare folder\'' -l max-pixels -r -f -d 'Shrink images of more pixels than this to so many'
complete -c restok -n '__restok_at \'restok prepare folder\'' -l max-decoded-pixels -r -f -d 'Images of more pixels than this are left out, since they may fill all memory. Default: …'
complete -c restok -n '__restok_at \'restok prepare folder\'' -l max-member-bytes -r -f -d 'Image files, and files in tars, of more bytes than this are left out unread. Default: …'
complete -c restok -n '__restok_at \'restok prepare folder\'' -l check -r -f -a '(__restok_values \'quick|full\')' -d 'How to look for broken images: quick reads structure (no image, cut short, PNG …'
complete -c restok -n '__restok_at \'restok prepare folder\'' -l samples-per-shard -r -f -d 'Images in a shard'
complete -c restok -n '__restok_at \'restok prepare folder\'' -l jobs -r -f -d 'Processes to work with; the result is the same. Default: one per core'
complete -c restok -n '__restok_at \'restok prepare folder\'' -l overwrite -d 'Replace the data set that OUT already holds'
complete -c restok -n '__restok_at \'restok prepare folder\'' -l json -d 'Print the counts as one JSON object instead of OUT'
complete -c restok -n '__restok_at \'restok prepare folder\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok prepare folder\' 1 1' -f -a '(__restok_folders)'
complete -c restok -n '__restok_argument \'restok prepare folder\' 2 2' -F

# restok prepare shards
complete -c restok -n '__restok_at \'restok prepare shards\'' -l class-names -r -F -a '(__restok_values \'class names\')' -d 'What the classes are called: a file with a line for each, or the word imagenet. …'
complete -c restok -n '__restok_at \'restok prepare shards\'' -l num-classes -r -f -d 'How many classes there are, called by numbers; 0: none. Default: what the .cls say, …'
complete -c restok -n '__restok_at \'restok prepare shards\'' -l check -r -f -a '(__restok_values \'quick|full\')' -d 'How to look for broken images: quick reads structure (no image, cut short, PNG …'
complete -c restok -n '__restok_at \'restok prepare shards\'' -l max-decoded-pixels -r -f -d 'Images of more pixels than this are left out, since they may fill all memory. Default: …'
complete -c restok -n '__restok_at \'restok prepare shards\'' -l max-member-bytes -r -f -d 'Image files, and files in tars, of more bytes than this are left out unread. Default: …'
complete -c restok -n '__restok_at \'restok prepare shards\'' -l jobs -r -f -d 'Processes to work with; the result is the same. Default: one per core'
complete -c restok -n '__restok_at \'restok prepare shards\'' -l overwrite -d 'Replace the data set that OUT already holds'
complete -c restok -n '__restok_at \'restok prepare shards\'' -l json -d 'Print the counts as one JSON object instead of OUT'
complete -c restok -n '__restok_at \'restok prepare shards\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok prepare shards\' 1 999' -F

# restok prepare codes
complete -c restok -n '__restok_at \'restok prepare codes\'' -l tokenizer -r -f -a '(__restok_values \'models\') (__restok_folders)' -d 'The tokenizer to encode with'
complete -c restok -n '__restok_at \'restok prepare codes\'' -l views -r -f -a '(__restok_values \'ten-crop|flip|centre\')' -d 'What is encoded of a training image; of validation it is always the centre'
complete -c restok -n '__restok_at \'restok prepare codes\'' -l batch-size -r -f -d 'Views that are encoded at a time'
complete -c restok -n '__restok_at \'restok prepare codes\'' -l num-workers -r -f -d 'Processes that decode images beside each one that encodes'
complete -c restok -n '__restok_at \'restok prepare codes\'' -l max-member-bytes -r -f -d 'Image files, and files in tars, of more bytes than this are left out unread. Default: …'
complete -c restok -n '__restok_at \'restok prepare codes\'' -l num-processes -r -f -a '(__restok_values \'auto\')' -d 'Processes that share the work; auto: one per GPU'
complete -c restok -n '__restok_at \'restok prepare codes\'' -l device -r -f -a '(__restok_values \'devices\')' -d 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps'
complete -c restok -n '__restok_at \'restok prepare codes\'' -l dtype -r -f -a '(__restok_values \'auto|float32|bf16\')' -d 'Precision of the model; auto: bf16 on a GPU, float32 on a CPU (some are faster in bf16)'
complete -c restok -n '__restok_at \'restok prepare codes\'' -l deterministic -d 'Compute the same bits each time on a GPU, too, for batches of one size: slower'
complete -c restok -n '__restok_at \'restok prepare codes\'' -l overwrite -d 'Replace the codes that OUT already holds'
complete -c restok -n '__restok_at \'restok prepare codes\'' -l json -d 'Print one JSON object instead of OUT'
complete -c restok -n '__restok_at \'restok prepare codes\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok prepare codes\' 1 1' -f -a '(__restok_values \'data\') (__restok_folders)'
complete -c restok -n '__restok_argument \'restok prepare codes\' 2 2' -F

# restok prepare verify
complete -c restok -n '__restok_at \'restok prepare verify\'' -l jobs -r -f -d 'Processes to work with; the result is the same. Default: one per core'
complete -c restok -n '__restok_at \'restok prepare verify\'' -l max-member-bytes -r -f -d 'Image files, and files in tars, of more bytes than this are left out unread. Default: …'
complete -c restok -n '__restok_at \'restok prepare verify\'' -l json -d 'Print one JSON object instead of lines'
complete -c restok -n '__restok_at \'restok prepare verify\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok prepare verify\' 1 1' -f -a '(__restok_values \'data\') (__restok_folders)'

# restok prepare sample
complete -c restok -n '__restok_at \'restok prepare sample\'' -l overwrite -d 'Replace the data set that OUT already holds'
complete -c restok -n '__restok_at \'restok prepare sample\'' -l json -d 'Print the counts as one JSON object instead of OUT'
complete -c restok -n '__restok_at \'restok prepare sample\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok prepare sample\' 1 1' -F

# restok train-tokenizer
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l output -s o -r -f -d 'The folder of the run'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l preset -r -f -a '(__restok_values \'tokenizer presets\')' -d 'What to build and how to train it; `restok models` lists them. Default: sample, or the …'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l config -r -f -d 'Settings over the preset\'s: YAML, or a run whose settings to take'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l set -r -f -a '(__restok_values \'tokenizer settings\')' -d 'One setting, such as schedule.seed=3; repeatable'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l max-steps -r -f -d 'Optimizer steps of the whole run. Default: the preset\'s'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l batch-size -r -f -d 'Images per step. Default: the preset\'s'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l seed -r -f -d 'Decides everything random. Default: the preset\'s'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l image-size -r -f -d 'Pixels of an image, such as 128 or 128x96 (width x height). Default: the preset\'s'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l init -r -f -a '(__restok_values \'models\') (__restok_folders)' -d 'Start from the weights of this model: a folder, a run, hf:owner/name, sample or photo'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l early-stop -r -f -d 'End after N validations in a row without a better one; the best is kept'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l stop-at -r -f -d 'Save and end after this step, as if interrupted; --resume goes on'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l track -r -f -a '(__restok_values \'trackers\')' -d 'Also log to tensorboard, wandb or trackio; repeatable'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l allow-pipe -d 'Run the shell commands (pipe:) that DATA names for its shards'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l num-processes -r -f -a '(__restok_values \'auto\')' -d 'Processes that share the work; auto: one per GPU'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l dry-run -d 'Try a step of everything, print what the run will take, and train nothing'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l skip-preflight -d 'Start at once, without trying a step of everything first'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l resume -d 'Go on exactly where the run in RUN stopped'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l overwrite -d 'Replace what the output folder already holds'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l device -r -f -a '(__restok_values \'devices\')' -d 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps'
complete -c restok -n '__restok_at \'restok train-tokenizer\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok train-tokenizer\' 1 1' -f -a '(__restok_values \'data\') (__restok_folders)'

# restok train-har
complete -c restok -n '__restok_at \'restok train-har\'' -l tokenizer -r -f -a '(__restok_values \'models\') (__restok_folders)' -d 'A tokenizer: a run of train-tokenizer, its model folder, sample or photo'
complete -c restok -n '__restok_at \'restok train-har\'' -l output -s o -r -f -d 'The folder of the run'
complete -c restok -n '__restok_at \'restok train-har\'' -l preset -r -f -a '(__restok_values \'har presets\')' -d 'What to build and how to train it; `restok models` lists them. Default: sample, or the …'
complete -c restok -n '__restok_at \'restok train-har\'' -l config -r -f -d 'Settings over the preset\'s: YAML, or a run whose settings to take'
complete -c restok -n '__restok_at \'restok train-har\'' -l set -r -f -a '(__restok_values \'har settings\')' -d 'One setting, such as schedule.seed=3; repeatable'
complete -c restok -n '__restok_at \'restok train-har\'' -l max-steps -r -f -d 'Optimizer steps of the whole run. Default: the preset\'s'
complete -c restok -n '__restok_at \'restok train-har\'' -l batch-size -r -f -d 'Images per step. Default: the preset\'s'
complete -c restok -n '__restok_at \'restok train-har\'' -l seed -r -f -d 'Decides everything random. Default: the preset\'s'
complete -c restok -n '__restok_at \'restok train-har\'' -l image-size -r -f -d 'Pixels of an image, such as 128 or 128x96 (width x height). Default: the preset\'s'
complete -c restok -n '__restok_at \'restok train-har\'' -l init -r -f -a '(__restok_values \'models\') (__restok_folders)' -d 'Start from the weights of this model: a folder, a run, hf:owner/name, sample or photo'
complete -c restok -n '__restok_at \'restok train-har\'' -l early-stop -r -f -d 'End after N validations in a row without a better one; the best is kept'
complete -c restok -n '__restok_at \'restok train-har\'' -l stop-at -r -f -d 'Save and end after this step, as if interrupted; --resume goes on'
complete -c restok -n '__restok_at \'restok train-har\'' -l track -r -f -a '(__restok_values \'trackers\')' -d 'Also log to tensorboard, wandb or trackio; repeatable'
complete -c restok -n '__restok_at \'restok train-har\'' -l allow-pipe -d 'Run the shell commands (pipe:) that DATA names for its shards'
complete -c restok -n '__restok_at \'restok train-har\'' -l num-processes -r -f -a '(__restok_values \'auto\')' -d 'Processes that share the work; auto: one per GPU'
complete -c restok -n '__restok_at \'restok train-har\'' -l dry-run -d 'Try a step of everything, print what the run will take, and train nothing'
complete -c restok -n '__restok_at \'restok train-har\'' -l skip-preflight -d 'Start at once, without trying a step of everything first'
complete -c restok -n '__restok_at \'restok train-har\'' -l resume -d 'Go on exactly where the run in RUN stopped'
complete -c restok -n '__restok_at \'restok train-har\'' -l overwrite -d 'Replace what the output folder already holds'
complete -c restok -n '__restok_at \'restok train-har\'' -l device -r -f -a '(__restok_values \'devices\')' -d 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps'
complete -c restok -n '__restok_at \'restok train-har\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok train-har\' 1 1' -f -a '(__restok_values \'data\') (__restok_folders)'

# restok reconstruct
complete -c restok -n '__restok_at \'restok reconstruct\'' -l model -r -f -a '(__restok_values \'models\') (__restok_folders)' -d 'A tokenizer, or a generator with its tokenizer; photo suits photographs'
complete -c restok -n '__restok_at \'restok reconstruct\'' -l output -s o -r -F -d 'A folder, a .png for one image, or - (a tar stream)'
complete -c restok -n '__restok_at \'restok reconstruct\'' -l num-codes -r -f -d 'Decode the first N codes only: coarser; several: each. Default: all'
complete -c restok -n '__restok_at \'restok reconstruct\'' -l split -r -f -a '(__restok_values \'validation|train\')' -d 'The split to take of a data set'
complete -c restok -n '__restok_at \'restok reconstruct\'' -l no-crop -d 'Take images at their own size, which the model was not trained on'
complete -c restok -n '__restok_at \'restok reconstruct\'' -l max-decoded-pixels -r -f -d 'Images of more pixels than this are left out, since they may fill all memory. Default: …'
complete -c restok -n '__restok_at \'restok reconstruct\'' -l max-member-bytes -r -f -d 'Image files, and files in tars, of more bytes than this are left out unread. Default: …'
complete -c restok -n '__restok_at \'restok reconstruct\'' -l grid -r -F -d 'Also write a PNG: images beside what is made of them'
complete -c restok -n '__restok_at \'restok reconstruct\'' -l ladder -r -F -d 'The same with every level, and what each adds'
complete -c restok -n '__restok_at \'restok reconstruct\'' -l overwrite -d 'Replace what the output folder already holds'
complete -c restok -n '__restok_at \'restok reconstruct\'' -l num-processes -r -f -a '(__restok_values \'auto\')' -d 'Processes that share the work; auto: one per GPU'
complete -c restok -n '__restok_at \'restok reconstruct\'' -l batch-size -r -f -a '(__restok_values \'auto\')' -d 'Images at a time; auto: what the device holds'
complete -c restok -n '__restok_at \'restok reconstruct\'' -l device -r -f -a '(__restok_values \'devices\')' -d 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps'
complete -c restok -n '__restok_at \'restok reconstruct\'' -l dtype -r -f -a '(__restok_values \'auto|float32|bf16\')' -d 'Precision of the model; auto: bf16 on a GPU, float32 on a CPU (some are faster in bf16)'
complete -c restok -n '__restok_at \'restok reconstruct\'' -l deterministic -d 'Compute the same bits each time on a GPU, too, for batches of one size: slower'
complete -c restok -n '__restok_at \'restok reconstruct\'' -l json -d 'Print one JSON object instead of the path'
complete -c restok -n '__restok_at \'restok reconstruct\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok reconstruct\' 1 999' -F -a '(__restok_values \'pictures\')'

# restok generate
complete -c restok -n '__restok_at \'restok generate\'' -l model -r -f -a '(__restok_values \'models\') (__restok_folders)' -d 'A generator: a run of train-har, or its model folder'
complete -c restok -n '__restok_at \'restok generate\'' -l steps -r -f -d 'Sampling steps; fewer than all stop at a coarser level. Default: all'
complete -c restok -n '__restok_at \'restok generate\'' -l count -r -f -d 'How many images'
complete -c restok -n '__restok_at \'restok generate\'' -l class -r -f -a '(__restok_values \'classes\')' -d 'A class by name, number or synset, all, or random; may be repeated. Default: all in …'
complete -c restok -n '__restok_at \'restok generate\'' -l like -r -f -d 'Keep the first codes of this image and draw the rest; --keep says how many'
complete -c restok -n '__restok_at \'restok generate\'' -l keep -r -f -d 'How many codes of --like to keep: of few, its layout alone'
complete -c restok -n '__restok_at \'restok generate\'' -l seed -r -f -d 'Decides everything random: the same seed gives the same result'
complete -c restok -n '__restok_at \'restok generate\'' -l preset -r -F -a '(__restok_values \'ways to draw\')' -d 'paper, its guidance (3.75, step from 0.25, top-p 0.95); sample, what suits the model …'
complete -c restok -n '__restok_at \'restok generate\'' -l cfg-scale -r -f -d 'Classifier-free guidance; 1 = none'
complete -c restok -n '__restok_at \'restok generate\'' -l cfg-schedule -r -f -a '(__restok_values \'constant|linear|linear-reversed|linear-constant|triangular|rectangular|step|cosine|cosine-reversed\')' -d 'How guidance goes from 1 to its scale, or back, over the steps'
complete -c restok -n '__restok_at \'restok generate\'' -l cfg-start -r -f -d 'Where step and rectangular begin'
complete -c restok -n '__restok_at \'restok generate\'' -l cfg-stop -r -f -d 'Where rectangular ends'
complete -c restok -n '__restok_at \'restok generate\'' -l cfg-peak -r -f -d 'Where triangular and linear-constant are at their scale'
complete -c restok -n '__restok_at \'restok generate\'' -l temperature -r -f -d 'Below 1: safer, 0: always the likeliest code'
complete -c restok -n '__restok_at \'restok generate\'' -l greedy -d 'Always the likeliest code: --temperature 0'
complete -c restok -n '__restok_at \'restok generate\'' -l top-k -r -f -d 'Draw from the K likeliest codes; 0 = all'
complete -c restok -n '__restok_at \'restok generate\'' -l top-p -r -f -d 'Draw from the likeliest codes that reach P'
complete -c restok -n '__restok_at \'restok generate\'' -l tokenizer -r -f -a '(__restok_values \'models\') (__restok_folders)' -d 'Decode with this copy of the generator\'s tokenizer'
complete -c restok -n '__restok_at \'restok generate\'' -l output -s o -r -f -d 'A folder for PNG files, a .png for one image, an .npz, or - (a tar stream)'
complete -c restok -n '__restok_at \'restok generate\'' -l grid -r -f -d 'Also write all images as one captioned PNG'
complete -c restok -n '__restok_at \'restok generate\'' -l ladder -r -f -d 'Also write a PNG of the first 8 growing level by level; with --like, of ever more …'
complete -c restok -n '__restok_at \'restok generate\'' -l shards -d 'Make OUT a data set of tar shards, as prepare does'
complete -c restok -n '__restok_at \'restok generate\'' -l codes -d 'Only draw codes, to an .npz, .safetensors or .jsonl file, or - (lines)'
complete -c restok -n '__restok_at \'restok generate\'' -l resume -d 'Go on where this command stopped; a higher --count draws more beside what is there'
complete -c restok -n '__restok_at \'restok generate\'' -l overwrite -d 'Replace what the output folder already holds'
complete -c restok -n '__restok_at \'restok generate\'' -l num-processes -r -f -a '(__restok_values \'auto\')' -d 'Processes that share the work; auto: one per GPU'
complete -c restok -n '__restok_at \'restok generate\'' -l compile -r -f -a '(__restok_values \'auto|on|off\')' -d 'Compile the models first, for thousands of images; auto: on a GPU where the compiler …'
complete -c restok -n '__restok_at \'restok generate\'' -l batch-size -r -f -a '(__restok_values \'auto\')' -d 'Images at a time; auto: what the device holds'
complete -c restok -n '__restok_at \'restok generate\'' -l device -r -f -a '(__restok_values \'devices\')' -d 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps'
complete -c restok -n '__restok_at \'restok generate\'' -l dtype -r -f -a '(__restok_values \'auto|float32|bf16\')' -d 'Precision of the model; auto: bf16 on a GPU, float32 on a CPU (some are faster in bf16)'
complete -c restok -n '__restok_at \'restok generate\'' -l deterministic -d 'Compute the same bits each time on a GPU, too, for batches of one size: slower'
complete -c restok -n '__restok_at \'restok generate\'' -l json -d 'Print one JSON object instead of the path'
complete -c restok -n '__restok_at \'restok generate\'' -l help -s h -d 'Show this message and exit'

# restok encode
complete -c restok -n '__restok_at \'restok encode\'' -l model -r -f -a '(__restok_values \'models\') (__restok_folders)' -d 'A tokenizer, or a generator with its tokenizer; photo suits photographs'
complete -c restok -n '__restok_at \'restok encode\'' -l output -s o -r -F -d 'An .npz, .safetensors or .jsonl file, or - (lines)'
complete -c restok -n '__restok_at \'restok encode\'' -l split -r -f -a '(__restok_values \'validation|train\')' -d 'The split to take of a data set'
complete -c restok -n '__restok_at \'restok encode\'' -l no-crop -d 'Take images at their own size, which the model was not trained on'
complete -c restok -n '__restok_at \'restok encode\'' -l max-decoded-pixels -r -f -d 'Images of more pixels than this are left out, since they may fill all memory. Default: …'
complete -c restok -n '__restok_at \'restok encode\'' -l max-member-bytes -r -f -d 'Image files, and files in tars, of more bytes than this are left out unread. Default: …'
complete -c restok -n '__restok_at \'restok encode\'' -l overwrite -d 'Replace the output file where it is there already'
complete -c restok -n '__restok_at \'restok encode\'' -l num-processes -r -f -a '(__restok_values \'auto\')' -d 'Processes that share the work; auto: one per GPU'
complete -c restok -n '__restok_at \'restok encode\'' -l batch-size -r -f -a '(__restok_values \'auto\')' -d 'Images at a time; auto: what the device holds'
complete -c restok -n '__restok_at \'restok encode\'' -l device -r -f -a '(__restok_values \'devices\')' -d 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps'
complete -c restok -n '__restok_at \'restok encode\'' -l dtype -r -f -a '(__restok_values \'auto|float32|bf16\')' -d 'Precision of the model; auto: bf16 on a GPU, float32 on a CPU (some are faster in bf16)'
complete -c restok -n '__restok_at \'restok encode\'' -l deterministic -d 'Compute the same bits each time on a GPU, too, for batches of one size: slower'
complete -c restok -n '__restok_at \'restok encode\'' -l json -d 'Print one JSON object instead of the path'
complete -c restok -n '__restok_at \'restok encode\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok encode\' 1 999' -F -a '(__restok_values \'pictures\')'

# restok decode
complete -c restok -n '__restok_at \'restok decode\'' -l model -r -f -a '(__restok_values \'models\') (__restok_folders)' -d 'A tokenizer, or a generator with its tokenizer; photo suits photographs'
complete -c restok -n '__restok_at \'restok decode\'' -l output -s o -r -F -d 'A folder, a .png for one image, or - (a tar stream on stdout)'
complete -c restok -n '__restok_at \'restok decode\'' -l num-codes -r -f -d 'Decode the first N codes only: coarser. Default: all'
complete -c restok -n '__restok_at \'restok decode\'' -l mix -r -F -d 'In place of CODES: the first --keep codes of A with the rest of B\'s. Each is an image, …'
complete -c restok -n '__restok_value \'restok decode\' --mix' -F
complete -c restok -n '__restok_at \'restok decode\'' -l keep -r -f -d 'How many codes of A --mix takes'
complete -c restok -n '__restok_at \'restok decode\'' -l grid -r -F -d 'Also write a PNG of the first 64'
complete -c restok -n '__restok_at \'restok decode\'' -l ladder -r -F -d 'Also write a PNG of the first 8 growing level by level; of --mix, with ever more codes …'
complete -c restok -n '__restok_at \'restok decode\'' -l overwrite -d 'Replace what the output folder already holds'
complete -c restok -n '__restok_at \'restok decode\'' -l batch-size -r -f -a '(__restok_values \'auto\')' -d 'Images at a time; auto: what the device holds'
complete -c restok -n '__restok_at \'restok decode\'' -l device -r -f -a '(__restok_values \'devices\')' -d 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps'
complete -c restok -n '__restok_at \'restok decode\'' -l dtype -r -f -a '(__restok_values \'auto|float32|bf16\')' -d 'Precision of the model; auto: bf16 on a GPU, float32 on a CPU (some are faster in bf16)'
complete -c restok -n '__restok_at \'restok decode\'' -l deterministic -d 'Compute the same bits each time on a GPU, too, for batches of one size: slower'
complete -c restok -n '__restok_at \'restok decode\'' -l json -d 'Print one JSON object instead of the path'
complete -c restok -n '__restok_at \'restok decode\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok decode\' 1 999' -F

# restok evaluate
complete -c restok -n '__restok_at \'restok evaluate\'' -l metric -r -f -a '(__restok_values \'metric\')' -d 'One of gfid, rfid, fid, fid-inf, pfid, sfid, is, precision, recall, kid, density, …'
complete -c restok -n '__restok_at \'restok evaluate\'' -l reference -r -F -a '(__restok_values \'pictures\')' -d 'What to compare with: the same forms, statistics (.npz: mu, sigma), or a name --make- …'
complete -c restok -n '__restok_at \'restok evaluate\'' -l split -r -f -a '(__restok_values \'validation|train|all\')' -d 'The split to take where a data set is given'
complete -c restok -n '__restok_at \'restok evaluate\'' -l crop -r -f -d 'First give SAMPLES the ADM centre crop to this size'
complete -c restok -n '__restok_at \'restok evaluate\'' -l max-decoded-pixels -r -f -d 'Images of more pixels than this are left out, since they may fill all memory. Default: …'
complete -c restok -n '__restok_at \'restok evaluate\'' -l max-member-bytes -r -f -d 'Image files, and files in tars, of more bytes than this are left out unread. Default: …'
complete -c restok -n '__restok_at \'restok evaluate\'' -l model -r -f -a '(__restok_values \'models\') (__restok_folders)' -d 'The tokenizer that makes codes of images (codebook, --num-codes, --perturb); for nll …'
complete -c restok -n '__restok_at \'restok evaluate\'' -l num-codes -r -f -a '(__restok_values \'all\')' -d 'Measure what the first N codes give back of SAMPLES, for each N; all: every level'
complete -c restok -n '__restok_at \'restok evaluate\'' -l perturb -r -f -d 'Measure pfid: SAMPLES against what --model decodes once this share α of their codes …'
complete -c restok -n '__restok_at \'restok evaluate\'' -l nearest -r -f -d 'With --perturb: δ, of how many codewords nearest to a code one replaces it'
complete -c restok -n '__restok_at \'restok evaluate\'' -l per-image -d 'With --json: also each image\'s value (psnr, …); --compare then goes by pairs'
complete -c restok -n '__restok_at \'restok evaluate\'' -l features -r -f -a '(__restok_values \'networks\')' -d 'Behind the metrics of features: inception (the default), dinov2, clip, vgg16, …'
complete -c restok -n '__restok_at \'restok evaluate\'' -l inception-weights -r -f -d 'Inception\'s. Default: torch\'s cache, or download'
complete -c restok -n '__restok_at \'restok evaluate\'' -l vgg-weights -r -f -d 'VGG-16\'s, of lpips and vgg16'
complete -c restok -n '__restok_at \'restok evaluate\'' -l timm-weights -r -f -d 'Of dinov2, clip or timm:NAME; of several networks, repeated in the order of their …'
complete -c restok -n '__restok_at \'restok evaluate\'' -l cache -r -f -d 'Where features and references are kept. Default: restok in $XDG_CACHE_HOME, ~/.cache'
complete -c restok -n '__restok_at \'restok evaluate\'' -l no-cache -d 'Neither look features up nor keep them'
complete -c restok -n '__restok_at \'restok evaluate\'' -l batch-size -r -f -d 'Images held at a time; changes speed and memory, not results'
complete -c restok -n '__restok_at \'restok evaluate\'' -l plot -r -F -d 'With --num-codes: draw metric against codes (PNG, PDF, SVG)'
complete -c restok -n '__restok_at \'restok evaluate\'' -l fail-under -r -f -a '(__restok_values \'limits\')' -d 'Exit 4 where a metric is worse (may be repeated): below VALUE, or above it where lower …'
complete -c restok -n '__restok_at \'restok evaluate\'' -l compare -r -F -d 'Say of two --json results whether B is better, worse or, by 95 %, neither; measures …'
complete -c restok -n '__restok_value \'restok evaluate\' --compare' -F
complete -c restok -n '__restok_at \'restok evaluate\'' -l runs -d 'SAMPLES are --json results of several runs with other seeds; measures nothing'
complete -c restok -n '__restok_at \'restok evaluate\'' -l make-reference -r -F -a '(__restok_values \'pictures\')' -d 'Make statistics of images for --reference instead; they go to -o'
complete -c restok -n '__restok_at \'restok evaluate\'' -l output -s o -r -F -d 'With --make-reference: an .npz, or a name for the cache'
complete -c restok -n '__restok_at \'restok evaluate\'' -l reference-images -r -f -d 'With --make-reference: images to keep, for precision, recall and kid'
complete -c restok -n '__restok_at \'restok evaluate\'' -l num-processes -r -f -a '(__restok_values \'auto\')' -d 'Processes that share the work; auto: one per GPU'
complete -c restok -n '__restok_at \'restok evaluate\'' -l overwrite -d 'Replace the output file where it is there already'
complete -c restok -n '__restok_at \'restok evaluate\'' -l device -r -f -a '(__restok_values \'devices\')' -d 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps'
complete -c restok -n '__restok_at \'restok evaluate\'' -l json -d 'Print one JSON object with the protocol instead of a table'
complete -c restok -n '__restok_at \'restok evaluate\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok evaluate\' 1 999' -F -a '(__restok_values \'pictures\')'

# restok probe
complete -c restok -n '__restok_at \'restok probe\'' -l part -r -f -a '(__restok_values \'tokenizer|generator\')' -d 'Which of a generator with its tokenizer. Default: the generator, where there is one'
complete -c restok -n '__restok_at \'restok probe\'' -l block -r -f -a '(__restok_values \'all\')' -d 'Of a generator: the block after which features are taken, or all (without levels). …'
complete -c restok -n '__restok_at \'restok probe\'' -l tokenizer -r -f -a '(__restok_values \'models\') (__restok_folders)' -d 'The tokenizer of a generator that has none with it'
complete -c restok -n '__restok_at \'restok probe\'' -l l2 -r -f -a '(__restok_values \'auto\')' -d 'Strength of the regression\'s regularisation; auto: chosen by a fifth of the training …'
complete -c restok -n '__restok_at \'restok probe\'' -l neighbours -r -f -d 'Nearest training images that vote'
complete -c restok -n '__restok_at \'restok probe\'' -l cache -r -f -a '(__restok_folders)' -d 'Where features and references are kept. Default: restok in $XDG_CACHE_HOME, ~/.cache'
complete -c restok -n '__restok_at \'restok probe\'' -l no-cache -d 'Neither look features up nor keep them'
complete -c restok -n '__restok_at \'restok probe\'' -l batch-size -r -f -d 'Images held at a time; changes speed and memory, not results'
complete -c restok -n '__restok_at \'restok probe\'' -l num-processes -r -f -a '(__restok_values \'auto\')' -d 'Processes that share the work; auto: one per GPU'
complete -c restok -n '__restok_at \'restok probe\'' -l device -r -f -a '(__restok_values \'devices\')' -d 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps'
complete -c restok -n '__restok_at \'restok probe\'' -l json -d 'Print one JSON object with the protocol instead of a table'
complete -c restok -n '__restok_at \'restok probe\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok probe\' 1 1' -f -a '(__restok_values \'models\') (__restok_folders)'
complete -c restok -n '__restok_argument \'restok probe\' 2 2' -f -a '(__restok_values \'data\') (__restok_folders)'

# restok tune
complete -c restok -n '__restok_at \'restok tune\'' -l metric -r -f -a '(__restok_values \'metric of sets\')' -d 'What to search by: one of gfid, fid, fid-inf, sfid, is, precision, recall, kid, …'
complete -c restok -n '__restok_at \'restok tune\'' -l reference -r -F -a '(__restok_values \'pictures\')' -d 'What to compare with, as evaluate takes it. Default for the sample model: the emoji it …'
complete -c restok -n '__restok_at \'restok tune\'' -l split -r -f -a '(__restok_values \'validation|train|all\')' -d 'The split to take where a data set is given'
complete -c restok -n '__restok_at \'restok tune\'' -l features -r -f -a '(__restok_values \'networks\')' -d 'Behind the metric: inception, dinov2, clip, vgg16, timm:NAME, or random, for smoke …'
complete -c restok -n '__restok_at \'restok tune\'' -l inception-weights -r -f -d 'Inception\'s. Default: torch\'s cache, or download'
complete -c restok -n '__restok_at \'restok tune\'' -l vgg-weights -r -f -d 'VGG-16\'s, of lpips and vgg16'
complete -c restok -n '__restok_at \'restok tune\'' -l timm-weights -r -f -d 'Of dinov2, clip or timm:NAME'
complete -c restok -n '__restok_at \'restok tune\'' -l cache -r -f -d 'Where features and references are kept. Default: restok in $XDG_CACHE_HOME, ~/.cache'
complete -c restok -n '__restok_at \'restok tune\'' -l space -r -F -d 'YAML of the values to try, such as `cfg_scale: [1, 1.5, 2]`'
complete -c restok -n '__restok_at \'restok tune\'' -l try -r -f -a '(__restok_values \'options to try\')' -d 'Values to try of cfg_scale, cfg_schedule, cfg_start, cfg_stop, cfg_peak, temperature, …'
complete -c restok -n '__restok_at \'restok tune\'' -l first -r -f -d 'Images of each candidate at first'
complete -c restok -n '__restok_at \'restok tune\'' -l images -r -f -d 'Images of each in the last round, and on fresh seeds'
complete -c restok -n '__restok_at \'restok tune\'' -l class -r -f -a '(__restok_values \'classes\')' -d 'As generate takes it. Default: random, of all classes'
complete -c restok -n '__restok_at \'restok tune\'' -l steps -r -f -d 'Sampling steps; fewer than all stop at a coarser level. Default: all'
complete -c restok -n '__restok_at \'restok tune\'' -l seed -r -f -d 'Decides everything random: the same seed gives the same result'
complete -c restok -n '__restok_at \'restok tune\'' -l tokenizer -r -f -a '(__restok_values \'models\') (__restok_folders)' -d 'Decode with this copy of the generator\'s tokenizer'
complete -c restok -n '__restok_at \'restok tune\'' -l output -s o -r -f -a '(__restok_folders)' -d 'The folder for what is drawn and found'
complete -c restok -n '__restok_at \'restok tune\'' -l plot -r -F -d 'Draw the metric against the Inception Score (PNG, PDF, SVG)'
complete -c restok -n '__restok_at \'restok tune\'' -l num-processes -r -f -a '(__restok_values \'auto\')' -d 'Processes that share the work; auto: one per GPU'
complete -c restok -n '__restok_at \'restok tune\'' -l resume -d 'Take what DIR holds, also for other values, metrics, references, more images'
complete -c restok -n '__restok_at \'restok tune\'' -l overwrite -d 'Replace what the output folder already holds'
complete -c restok -n '__restok_at \'restok tune\'' -l batch-size -r -f -a '(__restok_values \'auto\')' -d 'Images at a time; auto: what the device holds'
complete -c restok -n '__restok_at \'restok tune\'' -l device -r -f -a '(__restok_values \'devices\')' -d 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps'
complete -c restok -n '__restok_at \'restok tune\'' -l dtype -r -f -a '(__restok_values \'auto|float32|bf16\')' -d 'Precision of the model; auto: bf16 on a GPU, float32 on a CPU (some are faster in bf16)'
complete -c restok -n '__restok_at \'restok tune\'' -l deterministic -d 'Compute the same bits each time on a GPU, too, for batches of one size: slower'
complete -c restok -n '__restok_at \'restok tune\'' -l json -d 'Print one JSON object with the protocol instead of a table'
complete -c restok -n '__restok_at \'restok tune\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok tune\' 1 1' -f -a '(__restok_values \'models\') (__restok_folders)'

# restok curves
complete -c restok -n '__restok_at \'restok curves\'' -l output -s o -r -F -d 'The PNG to make'
complete -c restok -n '__restok_at \'restok curves\'' -l metric -r -f -d 'Draw this one, such as validation_psnr; repeatable'
complete -c restok -n '__restok_at \'restok curves\'' -l overwrite -d 'Replace the output file where it is there already'
complete -c restok -n '__restok_at \'restok curves\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok curves\' 1 999' -f -a '(__restok_folders)'

# restok report
complete -c restok -n '__restok_at \'restok report\'' -l output -s o -r -F -d 'The HTML file to make'
complete -c restok -n '__restok_at \'restok report\'' -l metrics -r -F -d 'What `restok evaluate … --json > FILE` wrote, beside those in the runs; repeatable'
complete -c restok -n '__restok_at \'restok report\'' -l watch -d 'Make it anew every 30 s until the runs end; a browser follows by itself'
complete -c restok -n '__restok_at \'restok report\'' -l overwrite -d 'Replace the output file where it is there already'
complete -c restok -n '__restok_at \'restok report\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok report\' 1 999' -f -a '(__restok_folders)'

# restok demo
complete -c restok -n '__restok_at \'restok demo\'' -l output -s o -r -f -a '(__restok_folders)' -d 'The folder for all that is made'
complete -c restok -n '__restok_at \'restok demo\'' -l quick -d 'A few steps, in one to two minutes: only to see that everything works'
complete -c restok -n '__restok_at \'restok demo\'' -l overwrite -d 'Replace what the output folder already holds'
complete -c restok -n '__restok_at \'restok demo\'' -l help -s h -d 'Show this message and exit'

# restok bench
complete -c restok -n '__restok_at \'restok bench\'' -l model -r -f -a '(__restok_values \'models\') (__restok_folders)' -d 'A model: a generator with its tokenizer, or a tokenizer. Default: random weights of …'
complete -c restok -n '__restok_at \'restok bench\'' -l preset -r -f -a '(__restok_values \'tokenizer presets\')' -d 'The preset of the tokenizer, with random weights'
complete -c restok -n '__restok_at \'restok bench\'' -l har -r -f -a '(__restok_values \'har presets\')' -d 'The preset of the generator'
complete -c restok -n '__restok_at \'restok bench\'' -l what -r -f -a '(__restok_values \'parts\')' -d 'Some of encode,decode,generate,ar,train,loading,inception'
complete -c restok -n '__restok_at \'restok bench\'' -l batch-size -r -f -d 'Images at a time'
complete -c restok -n '__restok_at \'restok bench\'' -l runs -r -f -d 'Runs of each, after one to warm up'
complete -c restok -n '__restok_at \'restok bench\'' -l compile -d 'Also compiled, which takes a while'
complete -c restok -n '__restok_at \'restok bench\'' -l device -r -f -a '(__restok_values \'devices\')' -d 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps'
complete -c restok -n '__restok_at \'restok bench\'' -l json -d 'Print one JSON object instead of lines'
complete -c restok -n '__restok_at \'restok bench\'' -l markdown -d 'Print a Markdown table'
complete -c restok -n '__restok_at \'restok bench\'' -l plot -r -F -d 'Also draw bars: .png, .svg or .pdf'
complete -c restok -n '__restok_at \'restok bench\'' -l help -s h -d 'Show this message and exit'

# restok doctor
complete -c restok -n '__restok_at \'restok doctor\'' -l json -d 'Print one JSON object instead of lines'
complete -c restok -n '__restok_at \'restok doctor\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok doctor\' 1 999' -F -a '(__restok_values \'pictures\')'

# restok models
complete -c restok -n '__restok_argument \'restok models\' 1 1' -a presets -d 'List the presets of both trainers, or describe one: sizes, memory, what it needs, what …'
complete -c restok -n '__restok_argument \'restok models\' 1 1' -a show -d 'Say what a model is: config, parameters, levels, fingerprint'
complete -c restok -n '__restok_argument \'restok models\' 1 1' -a verify -d 'Read models from end to end: are they what was written?'
complete -c restok -n '__restok_argument \'restok models\' 1 1' -a convert -d 'Write a model in the other layout: released from ours, ours from released. Prints OUT'
complete -c restok -n '__restok_argument \'restok models\' 1 1' -a halve -d 'Write a model with its weights rounded to 16 bits: half the bytes. Prints OUT'
complete -c restok -n '__restok_argument \'restok models\' 1 1' -a card -d 'Write the card of a model, its README.md, with metrics and licence. Prints it'
complete -c restok -n '__restok_argument \'restok models\' 1 1' -a push -d 'Publish a model on the Hugging Face hub, with its card and a generator\'s tokenizer. …'
complete -c restok -n '__restok_at \'restok models\'' -l json -d 'Print one JSON object instead of lines'
complete -c restok -n '__restok_at \'restok models\'' -l help -s h -d 'Show this message and exit'

# restok models presets
complete -c restok -n '__restok_at \'restok models presets\'' -l kind -r -f -a '(__restok_values \'tokenizer|har\')' -d 'Only those of this trainer'
complete -c restok -n '__restok_at \'restok models presets\'' -l memory -d 'Count the memory of a whole step of all of them, in some minutes'
complete -c restok -n '__restok_at \'restok models presets\'' -l json -d 'Print one JSON object instead of lines'
complete -c restok -n '__restok_at \'restok models presets\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok models presets\' 1 1' -f -a '(__restok_values \'presets\')'

# restok models show
complete -c restok -n '__restok_at \'restok models show\'' -l json -d 'Print one JSON object instead of lines'
complete -c restok -n '__restok_at \'restok models show\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok models show\' 1 1' -f -a '(__restok_values \'models\') (__restok_folders)'

# restok models verify
complete -c restok -n '__restok_at \'restok models verify\'' -l json -d 'Print one JSON object instead of lines'
complete -c restok -n '__restok_at \'restok models verify\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok models verify\' 1 999' -F

# restok models convert
complete -c restok -n '__restok_at \'restok models convert\'' -l overwrite -d 'Replace what the output folder already holds'
complete -c restok -n '__restok_at \'restok models convert\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok models convert\' 1 1' -f -a '(__restok_values \'models\') (__restok_folders)'
complete -c restok -n '__restok_argument \'restok models convert\' 2 2' -F

# restok models halve
complete -c restok -n '__restok_at \'restok models halve\'' -l overwrite -d 'Replace what the output folder already holds'
complete -c restok -n '__restok_at \'restok models halve\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok models halve\' 1 1' -f -a '(__restok_values \'models\') (__restok_folders)'
complete -c restok -n '__restok_argument \'restok models halve\' 2 2' -F

# restok models card
complete -c restok -n '__restok_at \'restok models card\'' -l metrics -r -F -d 'What `restok evaluate --json` said of the model, for the card; repeatable'
complete -c restok -n '__restok_at \'restok models card\'' -l licence -l license -r -f -d 'Of the model, for the card, as the hub writes it: mit, …'
complete -c restok -n '__restok_at \'restok models card\'' -l overwrite -d 'Replace a README.md that restok did not write, or that was edited'
complete -c restok -n '__restok_at \'restok models card\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok models card\' 1 1' -f -a '(__restok_values \'models\') (__restok_folders)'

# restok models push
complete -c restok -n '__restok_at \'restok models push\'' -l metrics -r -F -d 'What `restok evaluate --json` said of the model, for the card; repeatable'
complete -c restok -n '__restok_at \'restok models push\'' -l licence -l license -r -f -d 'Of the model, for the card, as the hub writes it: mit, …'
complete -c restok -n '__restok_at \'restok models push\'' -l private -d 'Let nobody else see it, where it is new'
complete -c restok -n '__restok_at \'restok models push\'' -l revision -r -f -d 'The branch to put it on. Default: the hub\'s, main'
complete -c restok -n '__restok_at \'restok models push\'' -l dry-run -d 'List what would go, and send nothing'
complete -c restok -n '__restok_at \'restok models push\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok models push\' 1 1' -f -a '(__restok_values \'models\') (__restok_folders)'
complete -c restok -n '__restok_argument \'restok models push\' 2 2' -f

# restok config
complete -c restok -n '__restok_argument \'restok config\' 1 1' -a suggest -d 'Look at a data set and at this machine, measure a few steps, and print one command to …'
complete -c restok -n '__restok_argument \'restok config\' 1 1' -a show -d 'Print every setting; a comment says where one was stated that is no default'
complete -c restok -n '__restok_argument \'restok config\' 1 1' -a diff -d 'Print the settings that differ between two, one a line'
complete -c restok -n '__restok_argument \'restok config\' 1 1' -a validate -d 'Check a config file, and say which commands take it. The first mistake is named with …'
complete -c restok -n '__restok_argument \'restok config\' 1 1' -a schema -d 'Print a JSON schema of config files, by which editors complete and check them'
complete -c restok -n '__restok_at \'restok config\'' -l help -s h -d 'Show this message and exit'

# restok config suggest
complete -c restok -n '__restok_at \'restok config suggest\'' -l kind -r -f -a '(__restok_values \'tokenizer|har\')' -d 'What to train'
complete -c restok -n '__restok_at \'restok config suggest\'' -l image-size -r -f -d 'Pixels of an image, such as 128 or 128x96 (width x height). Default: the preset\'s'
complete -c restok -n '__restok_at \'restok config suggest\'' -l minutes -r -f -d 'How long the training may take'
complete -c restok -n '__restok_at \'restok config suggest\'' -l memory -r -f -d 'How much it may take. Default: all of the device\'s'
complete -c restok -n '__restok_at \'restok config suggest\'' -l device -r -f -a '(__restok_values \'devices\')' -d 'auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps'
complete -c restok -n '__restok_at \'restok config suggest\'' -l json -d 'Print one JSON object instead of lines'
complete -c restok -n '__restok_at \'restok config suggest\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok config suggest\' 1 1' -f -a '(__restok_values \'data\') (__restok_folders)'

# restok config show
complete -c restok -n '__restok_at \'restok config show\'' -l set -r -f -a '(__restok_values \'tokenizer and har settings\')' -d 'One setting, such as schedule.seed=3; repeatable'
complete -c restok -n '__restok_at \'restok config show\'' -l kind -r -f -a '(__restok_values \'tokenizer|har\')' -d 'Whose config, where that is not clear'
complete -c restok -n '__restok_at \'restok config show\'' -l json -d 'Print one JSON object instead of lines'
complete -c restok -n '__restok_at \'restok config show\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok config show\' 1 1' -F -a '(__restok_values \'configs\')'

# restok config diff
complete -c restok -n '__restok_at \'restok config diff\'' -l kind -r -f -a '(__restok_values \'tokenizer|har\')' -d 'Whose config, where that is not clear'
complete -c restok -n '__restok_at \'restok config diff\'' -l json -d 'Print one JSON object instead of lines'
complete -c restok -n '__restok_at \'restok config diff\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok config diff\' 1 1' -F -a '(__restok_values \'configs\')'
complete -c restok -n '__restok_argument \'restok config diff\' 2 2' -F -a '(__restok_values \'configs\')'

# restok config validate
complete -c restok -n '__restok_at \'restok config validate\'' -l kind -r -f -a '(__restok_values \'tokenizer|har\')' -d 'Whose config, where that is not clear'
complete -c restok -n '__restok_at \'restok config validate\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok config validate\' 1 1' -F

# restok config schema
complete -c restok -n '__restok_at \'restok config schema\'' -l help -s h -d 'Show this message and exit'
complete -c restok -n '__restok_argument \'restok config schema\' 1 1' -f -a '(__restok_values \'tokenizer|har\')'

# restok plan
complete -c restok -n '__restok_argument \'restok plan\' 1 1' -a train-tokenizer -d 'Say what `restok train-tokenizer` with these settings will take'
complete -c restok -n '__restok_argument \'restok plan\' 1 1' -a train-har -d 'Say what `restok train-har` on cached codes with these settings will take'
complete -c restok -n '__restok_argument \'restok plan\' 1 1' -a generate -d 'Say what `restok generate` will take: all steps with guidance, and decoding'
complete -c restok -n '__restok_argument \'restok plan\' 1 1' -a encode -d 'Say what `restok encode`, or `restok prepare codes`, will take'
complete -c restok -n '__restok_argument \'restok plan\' 1 1' -a evaluate -d 'Say what Inception\'s features of `restok evaluate` will take'
complete -c restok -n '__restok_at \'restok plan\'' -l help -s h -d 'Show this message and exit'

# restok plan train-tokenizer
complete -c restok -n '__restok_at \'restok plan train-tokenizer\'' -l preset -r -f -a '(__restok_values \'tokenizer presets\')' -d 'What to build and how to train it; `restok models` lists them. Default: sample, or the …'
complete -c restok -n '__restok_at \'restok plan train-tokenizer\'' -l config -r -F -d 'Settings over the preset\'s: YAML, or a run whose settings to take'
complete -c restok -n '__restok_at \'restok plan train-tokenizer\'' -l set -r -f -a '(__restok_values \'tokenizer settings\')' -d 'One setting, such as schedule.seed=3; repeatable'
complete -c restok -n '__restok_at \'restok plan train-tokenizer\'' -l max-steps -r -f -d 'Optimizer steps of the whole run. Default: the preset\'s'
complete -c restok -n '__restok_at \'restok plan train-tokenizer\'' -l batch-size -r -f -d 'Images per step. Default: the preset\'s'
complete -c restok -n '__restok_at \'restok plan train-tokenizer\'' -l gpu -r -f -a '(__restok_values \'h100|h200|a100|l40s|4090|3090|mi300x|cpu\')' -d 'The card to plan for; cpu: this machine\'s, whose rates are measured now'
complete -c restok -n '__restok_at \'restok plan train-tokenizer\'' -l num-processes -r -f -a '(__restok_values \'auto\')' -d 'Cards that share the work'
complete -c restok -n '__restok_at \'restok plan train-tokenizer\'' -l price-per-hour -r -f -d 'Price of a card and hour'
complete -c restok -n '__restok_at \'restok plan train-tokenizer\'' -l fit -r -f -d 'Find settings for a card of this memory, such as 24GB or 80GiB'
complete -c restok -n '__restok_at \'restok plan train-tokenizer\'' -l choices -l no-choices -d 'Also count what other settings would change'
complete -c restok -n '__restok_at \'restok plan train-tokenizer\'' -l json -d 'Print one JSON object instead of lines'
complete -c restok -n '__restok_at \'restok plan train-tokenizer\'' -l help -s h -d 'Show this message and exit'

# restok plan train-har
complete -c restok -n '__restok_at \'restok plan train-har\'' -l preset -r -f -a '(__restok_values \'har presets\')' -d 'What to build and how to train it; `restok models` lists them. Default: sample, or the …'
complete -c restok -n '__restok_at \'restok plan train-har\'' -l config -r -F -d 'Settings over the preset\'s: YAML, or a run whose settings to take'
complete -c restok -n '__restok_at \'restok plan train-har\'' -l set -r -f -a '(__restok_values \'har settings\')' -d 'One setting, such as schedule.seed=3; repeatable'
complete -c restok -n '__restok_at \'restok plan train-har\'' -l max-steps -r -f -d 'Optimizer steps of the whole run. Default: the preset\'s'
complete -c restok -n '__restok_at \'restok plan train-har\'' -l batch-size -r -f -d 'Images per step. Default: the preset\'s'
complete -c restok -n '__restok_at \'restok plan train-har\'' -l gpu -r -f -a '(__restok_values \'h100|h200|a100|l40s|4090|3090|mi300x|cpu\')' -d 'The card to plan for; cpu: this machine\'s, whose rates are measured now'
complete -c restok -n '__restok_at \'restok plan train-har\'' -l num-processes -r -f -a '(__restok_values \'auto\')' -d 'Cards that share the work'
complete -c restok -n '__restok_at \'restok plan train-har\'' -l price-per-hour -r -f -d 'Price of a card and hour'
complete -c restok -n '__restok_at \'restok plan train-har\'' -l fit -r -f -d 'Find settings for a card of this memory, such as 24GB or 80GiB'
complete -c restok -n '__restok_at \'restok plan train-har\'' -l choices -l no-choices -d 'Also count what other settings would change'
complete -c restok -n '__restok_at \'restok plan train-har\'' -l json -d 'Print one JSON object instead of lines'
complete -c restok -n '__restok_at \'restok plan train-har\'' -l help -s h -d 'Show this message and exit'

# restok plan generate
complete -c restok -n '__restok_at \'restok plan generate\'' -l preset -r -f -a '(__restok_values \'har presets\')' -d 'The preset of the generator'
complete -c restok -n '__restok_at \'restok plan generate\'' -l tokenizer -r -f -a '(__restok_values \'tokenizer presets\')' -d 'The preset of the tokenizer'
complete -c restok -n '__restok_at \'restok plan generate\'' -l count -r -f -d 'Images in all'
complete -c restok -n '__restok_at \'restok plan generate\'' -l batch-size -r -f -a '(__restok_values \'auto\')' -d 'Images at a time'
complete -c restok -n '__restok_at \'restok plan generate\'' -l dtype -r -f -a '(__restok_values \'float32|bf16\')' -d 'Precision of the model'
complete -c restok -n '__restok_at \'restok plan generate\'' -l gpu -r -f -a '(__restok_values \'h100|h200|a100|l40s|4090|3090|mi300x|cpu\')' -d 'The card to plan for; cpu: this machine\'s, whose rates are measured now'
complete -c restok -n '__restok_at \'restok plan generate\'' -l price-per-hour -r -f -d 'Price of a card and hour'
complete -c restok -n '__restok_at \'restok plan generate\'' -l json -d 'Print one JSON object instead of lines'
complete -c restok -n '__restok_at \'restok plan generate\'' -l help -s h -d 'Show this message and exit'

# restok plan encode
complete -c restok -n '__restok_at \'restok plan encode\'' -l tokenizer -r -f -a '(__restok_values \'tokenizer presets\')' -d 'The preset of the tokenizer'
complete -c restok -n '__restok_at \'restok plan encode\'' -l count -r -f -d 'Images in all'
complete -c restok -n '__restok_at \'restok plan encode\'' -l batch-size -r -f -a '(__restok_values \'auto\')' -d 'Images at a time'
complete -c restok -n '__restok_at \'restok plan encode\'' -l dtype -r -f -a '(__restok_values \'float32|bf16\')' -d 'Precision of the model'
complete -c restok -n '__restok_at \'restok plan encode\'' -l gpu -r -f -a '(__restok_values \'h100|h200|a100|l40s|4090|3090|mi300x|cpu\')' -d 'The card to plan for; cpu: this machine\'s, whose rates are measured now'
complete -c restok -n '__restok_at \'restok plan encode\'' -l price-per-hour -r -f -d 'Price of a card and hour'
complete -c restok -n '__restok_at \'restok plan encode\'' -l json -d 'Print one JSON object instead of lines'
complete -c restok -n '__restok_at \'restok plan encode\'' -l help -s h -d 'Show this message and exit'

# restok plan evaluate
complete -c restok -n '__restok_at \'restok plan evaluate\'' -l count -r -f -d 'Images in all'
complete -c restok -n '__restok_at \'restok plan evaluate\'' -l size -r -f -d 'Pixels along each side of an image'
complete -c restok -n '__restok_at \'restok plan evaluate\'' -l batch-size -r -f -a '(__restok_values \'auto\')' -d 'Images at a time'
complete -c restok -n '__restok_at \'restok plan evaluate\'' -l gpu -r -f -a '(__restok_values \'h100|h200|a100|l40s|4090|3090|mi300x|cpu\')' -d 'The card to plan for; cpu: this machine\'s, whose rates are measured now'
complete -c restok -n '__restok_at \'restok plan evaluate\'' -l price-per-hour -r -f -d 'Price of a card and hour'
complete -c restok -n '__restok_at \'restok plan evaluate\'' -l json -d 'Print one JSON object instead of lines'
complete -c restok -n '__restok_at \'restok plan evaluate\'' -l help -s h -d 'Show this message and exit'
